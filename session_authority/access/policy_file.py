"""Reads the policy file, a TOML file that names callers. For each caller, the file lists the roles,
single RPCs that the caller may call, and the names in the caller's certificates.

An error names all faults of the file. The module `roles` decides which RPCs a role may call.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from session_authority.access.callers import NAME_RULE, is_name
from session_authority.access.errors import AccessError
from session_authority.access.roles import RPC_PATHS, Caller, Role
from session_authority.runtime.toml_files import faults_of, raise_faults, read_toml

T = TypeVar("T")

# The forms of the certificate names in a policy file (RFC 5280 §4.2.1.6): a URI with a scheme and
# an authority, such as a SPIFFE ID, or a DNS name.
_URI = re.compile(r"[a-z][a-z0-9+.-]*://[!-~]{1,2000}", re.ASCII)
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DNS = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Policy:
    """The contents of a policy file. `callers` has each caller under the caller's name.
    `certificates` has a caller under each name in the caller's certificates.
    """

    callers: Mapping[str, Caller]
    certificates: Mapping[str, Caller]


def read_policy(path: Path) -> Policy:
    """Returns the contents of a policy file. Raises AccessError with all faults if the file can't
    be read or is not valid.
    """
    try:
        file = _PolicyFile.model_validate(read_toml(path), context=set())
    except ValidationError as error:
        faults = faults_of(error, _in_words)
        raise AccessError(*(f"{path}: {fault}" for fault in faults)) from None
    except ValueError as error:
        raise AccessError(str(error)) from None
    callers = {
        name: Caller.of(name, table.roles, table.rpcs) for name, table in file.callers.items()
    }
    certificates = {
        text: callers[name] for name, table in file.callers.items() for text in table.certificates
    }
    return Policy(callers, certificates)


def _texts(value: object) -> list[str]:
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return value
    raise ValueError("must be a list of texts")


def _known(value: object, known: Mapping[str, T], what: str) -> list[T]:
    """Returns the values in `known` for a list of texts. Raises ValueError if `value` is no list of
    texts. Also raises ValueError if some texts are not in `known`, with one line for each unknown
    text. `what` is the word for a value in the error message.
    """
    texts, rule = _texts(value), f"is no {what}; there are {', '.join(known)}"
    raise_faults([f"{text!r} {rule}" for text in texts if text not in known])
    return [known[text] for text in texts]


def _roles(value: object) -> list[Role]:
    return _known(value, {role.value: role for role in Role}, "role")


def _rpcs(value: object, info: ValidationInfo) -> list[str]:
    paths = _known(value, RPC_PATHS, "RPC")
    if not paths and info.data.get("roles") == []:
        raise PydanticCustomError("idle_caller", "may call nothing: give it roles or rpcs")
    return paths


def _certificates(value: object, info: ValidationInfo) -> list[str]:
    faults, named = [], info.context
    assert isinstance(named, set)
    for text in (texts := _texts(value)):
        if _URI.fullmatch(text) is None and _DNS.fullmatch(text) is None:
            faults.append(
                f"{text!r} is neither a URI like spiffe://example.org/login nor a lower-case"
                " host name; no wildcards"
            )
        elif text in named:
            faults.append(f"{text!r} is named twice: it must stand for one caller")
        named.add(text)
    raise_faults(faults)
    return texts


def _name(name: str) -> str:
    if not is_name(name):
        raise ValueError(NAME_RULE)
    return name


class _CallerTable(BaseModel):
    """The TOML table of one caller. The validation context is the set of the certificate names that
    were read before. This set is used to find repeated names.
    """

    model_config = ConfigDict(extra="forbid")

    roles: Annotated[list[Role], PlainValidator(_roles)] = []
    rpcs: Annotated[list[str], PlainValidator(_rpcs), Field(validate_default=True)] = []
    certificates: Annotated[list[str], PlainValidator(_certificates)] = []


class _PolicyFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    callers: Annotated[
        dict[Annotated[str, AfterValidator(_name)], _CallerTable],
        Field(min_length=1, validate_default=True),
    ] = {}


# The error messages for the faults that pydantic itself finds, by pydantic's type of error.
_RULES = {
    "dict_type": "must be tables, each under [callers.NAME]",
    "model_type": "must be a table",
    "too_short": "is empty: nobody could call; name each caller under [callers.NAME]",
}


def _in_words(fault: ErrorDetails) -> tuple[str, str]:
    """Returns the position of a fault in the policy file, and the rule that the file breaks at this
    position.
    """
    *table, field = fault["loc"]
    if fault["type"] == "extra_forbidden":
        known = f"are {', '.join(_CallerTable.model_fields)}" if table else "is [callers.NAME] only"
        rule = f"is not known; there {known}"
    else:
        rule = _RULES.get(fault["type"], fault["msg"])
    of_the_table = field == "[key]" or fault["type"] == "idle_caller"
    return ".".join(map(str, table if of_the_table else fault["loc"])), rule
