"""The pages of the documentation: the README is short, and each block of code is run or parsed."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
CLIENT = "clients/python/tests/client_tests"
MAX_WORDS = 1200
# The test that runs blocks of a page unchanged, or compares them with what is run. A page may have
# other blocks too, which are only parsed here and by `test_shell_blocks`.
RUN_BY = {
    "README.md": "tests/e2e/test_first_minutes.py",
    "clients/go/README.md": "clients/go/readme_test.go",
    "clients/go/WEB.md": "tests/polyglot/test_go_readme.py",
    "clients/python/CACHE.md": "",
    "clients/python/README.md": f"{CLIENT}/test_readme.py",
    "clients/python/TIME_LEFT.md": f"{CLIENT}/test_browser_time_left.py",
    "clients/typescript/README.md": "clients/typescript/tests/web/documents.test.ts",
    "clients/typescript/WEB.md": "clients/typescript/tests/web/documents.test.ts",
    "clients/vectors/README.md": "tests/house/test_vectors.py",
    "clients/vectors/TESTEE.md": "",
    "docs/adapters.md": f"{CLIENT}/test_adapter.py",
    "docs/devices_element.md": f"{CLIENT}/test_devices_element.py",
    "docs/events.md": "tests/e2e/test_mail_examples.py",
    "docs/faults.md": "",
    "docs/gateway.md": "tests/gateway/test_gateway_page.py",
    "docs/gateway_file.md": "tests/gateway/test_docs.py",
    "docs/getting_started.md": "tests/e2e/test_first_minutes.py",
    "docs/keys.md": "tests/e2e/test_keys_page.py",
    "docs/kubernetes.md": "tests/packaging/test_chart.py",
    "docs/logs.md": "",
    "docs/metrics.md": "tests/e2e/test_metrics_page.py",
    "docs/my_devices.md": "",
    "docs/offline.md": "tests/e2e/test_offline_page.py",
    "docs/operations.md": "tests/e2e/test_operations_page.py",
    "docs/protocol.md": "tests/e2e/test_protocol_page.py",
    "docs/records.md": "",
    "docs/releases.md": "",
    "docs/security.md": "tests/e2e/test_security_page.py",
    "docs/session_life.md": "tests/e2e/test_session_life.py",
    "docs/tracing.md": "",
    "docs/troubleshooting.md": "tests/packaging/test_monitoring.py",
}
# Kinds of blocks that people run or copy. Others show output, trees and drawings.
CODE = {
    "css",
    "go",
    "html",
    "js",
    "json",
    "promql",
    "proto",
    "python",
    "sh",
    "toml",
    "ts",
    "tsx",
    "yaml",
}
SHOWN = {"", "mermaid", "text"}
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
PAGES = [
    path.relative_to(ROOT).as_posix()
    for pattern in (
        "*.md",
        "docs/*.md",
        "clients/go/*.md",
        "clients/python/*.md",
        "clients/typescript/*.md",
        "clients/vectors/*.md",
    )
    for path in sorted(ROOT.glob(pattern))
]

HELD = [(page, test) for page, test in RUN_BY.items() if test and page in PAGES]


def blocks(text: str) -> list[tuple[str, str]]:
    """The kind and the code of each block, without the indent of a list."""
    return [
        (kind, re.sub(rf"^{indent}", "", code, flags=re.MULTILINE))
        for indent, kind, code in _BLOCK.findall(text)
    ]


BLOCKS = {page: blocks((ROOT / page).read_text("utf-8")) for page in PAGES}
WITH_CODE = {page for page, found in BLOCKS.items() if {kind for kind, _ in found} & CODE}


class _Tags(HTMLParser):
    """Counts the elements that are open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: Counter[str] = Counter()
        self.feed(html)

    def handle_starttag(self, tag: str, _: object) -> None:
        self.open[tag] += tag not in {"img", "input", "link", "meta", "br"}

    def handle_endtag(self, tag: str) -> None:
        self.open[tag] -= 1


def fault(kind: str, code: str) -> str:
    """The fault of a block, or an empty text. `test_shell_blocks` parses the blocks for shells."""
    try:
        if kind == "python":
            compile(code, "a page", "exec")
        elif kind == "toml":
            tomllib.loads(code)
        elif kind == "yaml":
            yaml.safe_load(code)
        elif kind == "json":
            json.loads(code)
    except (SyntaxError, ValueError, yaml.YAMLError) as error:
        return f"{kind}: {error}"
    if kind == "html" and any(_Tags(code).open.values()):
        return "html: an element is not closed"
    if kind == "css" and code.count("{") != code.count("}"):
        return "css: a brace is not closed"
    return "" if kind in CODE | SHOWN else f"no known kind: {kind}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").split()) < MAX_WORDS


@pytest.mark.parametrize("page", PAGES)
def test_each_block_of_a_page_can_be_parsed(page: str):
    assert [found for kind, code in BLOCKS[page] if (found := fault(kind, code))] == []


def test_each_page_with_code_says_which_test_runs_it():
    assert WITH_CODE - {"CONTRIBUTING.md"} - set(RUN_BY) == set()
    assert set(RUN_BY) & set(PAGES) - WITH_CODE == set()


@pytest.mark.parametrize(("page", "test"), HELD)
def test_the_test_of_a_page_reads_that_page(page: str, test: str):
    text = (ROOT / test).read_text("utf-8")
    if "from client_tests.readme import" in text:
        text += (ROOT / CLIENT / "readme.py").read_text("utf-8")
    assert page in text or f'"{Path(page).name}"' in text


def test_each_page_of_docs_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    linked = set(re.findall(r"\]\(([a-z_]+\.md)", index))
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert pages - linked == set()  # `make docs` finds a link that leads nowhere.


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("python", "def f(:\n"),
        ("toml", "a = \n"),
        ("yaml", "a: [\n"),
        ("json", '{"a": }\n'),
        ("html", "<p><b></p>"),
        ("css", "a { color: red;"),
        ("rust", "fn main() {}"),
    ],
)
def test_a_broken_block_is_noticed(kind: str, code: str):
    assert fault(kind, code)
