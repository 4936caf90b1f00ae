"""Reads TOML files that people write into models. Names all faults of a file at once, each by its
place and its rule.

The meaning of a file, and the words of its rules, belong to the room that reads it.
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
        error: The error of the model. A validator that finds several faults raises one ValueError
            with a line for each.
        in_words: Returns the place of a fault, and its rule, in words.
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
