"""Reads TOML files, and reports the faults that a Pydantic model finds in their content. All faults
of a file are reported together, each with its place in the file and the rule that it breaks.

The package that uses this module defines what the content of a file means, and how each rule is
worded.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails


def read_toml(path: Path) -> dict[str, Any]:
    """Reads the content of a TOML file. Raises ValueError with the reason if the file can't be
    read, is not UTF-8, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not UTF-8") from None
    # for a number of 5,000 digits, tomllib raises a plain ValueError instead of a TOMLDecodeError
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not TOML: {error}") from None


def faults_of(
    error: ValidationError, in_words: Callable[[ErrorDetails], tuple[str, str]]
) -> list[str]:
    """Returns a line for each fault in a ValidationError. The lines are grouped by the tables of
    the TOML file: first the top level, then the other tables in the order of their first faults.
    Among the faults of each table, unknown fields come first.

    Args:
        error: The error that the model raised. If a validator finds several faults, its ValueError
            has a line for each fault.
        in_words: Returns two texts: where a fault is, and which rule it breaks.
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
    """Raises ValueError with a line for each fault. Does nothing if there is no fault."""
    if faults:
        raise ValueError("\n".join(faults))
