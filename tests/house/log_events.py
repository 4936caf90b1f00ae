"""Finds the events that the service logs, and the events that the docs list."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEVELS = frozenset({"debug", "info", "warning", "error"})
_ROW = re.compile(r"^\| `([a-z_]+)` \| ([a-z]+) \| ([^|]*) \| [^|]+ \| [^|]+ \|$", re.MULTILINE)
_FAULT = frozenset({"error", "trace"})


@dataclass(frozen=True)
class Event:
    """An event with its level and its fields. `open` means that it has more fields than the code
    shows.
    """

    level: str
    fields: frozenset[str]
    open: bool = False


def documented(page: str) -> dict[str, Event]:
    """The rows of the table of events."""
    return {
        name: Event(level, frozenset(re.findall(r"`([a-z_]+)`", fields)))
        for name, level, fields in _ROW.findall(page)
    }


def logged(package: Path) -> dict[str, list[Event]]:
    """The events that the code of a package logs. Raises AssertionError for a line whose event
    can't be determined.
    """
    trees = [list(ast.walk(ast.parse(path.read_text()))) for path in sorted(package.rglob("*.py"))]
    calls = [call for nodes in trees for call in _calls(nodes)]
    found: dict[str, list[Event]] = {}
    for nodes in trees:
        own = _calls(nodes)
        for function, call in _lines(nodes):
            names = list(_names(call.args[0], function, calls, own))
            assert names, f"nobody can tell the event of {ast.unparse(call)}"
            for name in names:
                found.setdefault(name, []).append(_event(call))
    return found


def _calls(nodes: Iterable[ast.AST]) -> list[ast.Call]:
    return [node for node in nodes if isinstance(node, ast.Call)]


def _lines(nodes: list[ast.AST]) -> Iterator[tuple[ast.AST, ast.Call]]:
    """The calls that write a line, each with the innermost function around it."""
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for node in _calls(nodes):
        if isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
            logger = ast.unparse(node.func.value)
            if "_log" in logger or "get_logger" in logger:
                around = [f for f in functions if f.lineno <= node.lineno <= (f.end_lineno or 0)]
                yield max(around, key=lambda f: f.lineno), node


def _names(
    name: ast.expr, function: ast.AST, calls: list[ast.Call], own: list[ast.Call]
) -> Iterator[str]:
    """The event names that an expression may stand for. A constant stands for itself. A parameter
    stands for the arguments of all calls of the function; only its own module calls a private
    function.
    """
    if isinstance(name, ast.Constant):
        yield str(name.value)
    elif isinstance(name, ast.JoinedStr):  # f"{self._what}_changed", of WatchedFiles
        [_, end] = name.values
        assert isinstance(end, ast.Constant)
        assert isinstance(end.value, str)
        for what in _given("WatchedFiles", 0, calls):
            yield f"{what}{end.value}"
    elif isinstance(name, ast.Name):
        assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        parameters = [a.arg for a in function.args.args if a.arg != "self"]
        where = own if function.name.startswith("_") else calls
        yield from _given(function.name, parameters.index(name.id), where)


def _given(function: str, place: int, calls: list[ast.Call]) -> Iterator[str]:
    """The texts that a function is called with."""
    for call in calls:
        called = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        called = call.func.id if isinstance(call.func, ast.Name) else called
        if called == function and len(call.args) > place:
            argument = call.args[place]
            if isinstance(argument, ast.Constant):
                yield str(argument.value)


def _event(call: ast.Call) -> Event:
    assert isinstance(call.func, ast.Attribute)
    fields = {word.arg for word in call.keywords if word.arg is not None}
    others = [ast.unparse(word.value) for word in call.keywords if word.arg is None]
    if others:
        fields |= _FAULT if any("fault(" in other for other in others) else set()
    unknown = any("fault(" not in other for other in others)
    return Event(call.func.attr, frozenset(fields), unknown)


def client_lines(package: Path) -> list[tuple[str, str]]:
    """The lines that the client logs, with their levels. The generated client for threads has the
    same lines.
    """
    found = []
    for path in sorted(package.rglob("*.py")):
        if "_sync" in path.parts:
            continue
        tree = ast.parse(path.read_text())
        texts = {
            node.targets[0].id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        }
        for call in _calls(ast.walk(tree)):
            if isinstance(call.func, ast.Attribute) and call.func.attr in {*LEVELS, "exception"}:
                if ast.unparse(call.func.value) not in ("_log", "self._states"):
                    continue
                text = call.args[0]
                value = text.value if isinstance(text, ast.Constant) else texts[ast.unparse(text)]
                level = "error" if call.func.attr == "exception" else call.func.attr
                found.append((str(value), level))
    return found
