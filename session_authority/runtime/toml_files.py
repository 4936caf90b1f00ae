"""Owns how a TOML file that a person wrote is read into a model, and how its faults are named: all
of them at once, each by where it is and by its rule.

What a file means, and the words of its rules, are for the room that reads it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file. Raises ValueError, whose text says why it can't be read."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not UTF-8") from None
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits is no TOMLDecodeError
        raise ValueError(f"{path}: is not TOML: {error}") from None


def faults_of(
    error: ValidationError, in_words: Callable[[ErrorDetails], tuple[str, str]]
) -> list[str]:
    """A line for each fault, table by table, unknown fields first.

    Args:
        error: What the model found. A validator that finds several faults raises one ValueError
            with a line for each.
        in_words: Where a fault is, and its rule.
    """
    found = error.errors(include_url=False)
    tables = list(dict.fromkeys([(), *(fault["loc"][:-1] for fault in found)]))
    found.sort(key=lambda f: (tables.index(f["loc"][:-1]), f["type"] != "extra_forbidden"))
    lines = []
    for fault in found:
        where, rules = in_words(fault)
        lines += [f"{where}: {rule}" for rule in rules.removeprefix("Value error, ").splitlines()]
    return lines


def raise_faults(faults: Sequence[str]) -> None:
    """Raises ValueError with a line for each fault, if there is one."""
    if faults:
        raise ValueError("\n".join(faults))
