"""Loads TOML files that people write into models. All faults of a file are reported together, each
with its place and its rule.

The package that reads a file defines what the content means, and how each rule is worded.
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
    # for a number of 5,000 digits, tomllib raises a plain ValueError
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not TOML: {error}") from None


def faults_of(
    error: ValidationError, in_words: Callable[[ErrorDetails], tuple[str, str]]
) -> list[str]:
    """Returns one line for each fault. The faults of one table stand together. The tables have the
    order in which the model found faults in them, after the top level. Unknown fields come first in
    each table.

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
    """Raises ValueError with a line for each fault. Does nothing if there is no fault."""
    if faults:
        raise ValueError("\n".join(faults))
