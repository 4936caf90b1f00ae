"""docs/gateway_file.md lists every field, option and header, with the defaults of the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from session_authority.gateway.configuration import GatewayConfig, load_gateway_config
from session_authority.gateway.identity import IDENTITY_HEADERS
from session_authority.gateway.routes import Route, Routes

NAMED = ("apps", "oauth_callers")
TEXT = (Path(__file__).parents[2] / "docs" / "gateway_file.md").read_text("utf-8")


def rows(heading: str) -> dict[str, str]:
    """The first two columns of the table below a heading. Several names may share a row."""
    below = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found: dict[str, str] = {}
    for first, second in re.findall(r"^\| (.*?) \| (.*?) \|", below, re.MULTILINE):
        names = re.findall(r"`([^`]+)`", first)
        values = (
            second.split(", ") if second.count(", ") == len(names) - 1 else [second] * len(names)
        )
        found.update(zip(names, values, strict=True))
    return found


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The table that a field holds, or None."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def fields(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of the file, with their defaults."""
    for name, field in model.model_fields.items():
        inner = model_of(field.annotation)
        if inner is None:
            yield before + name, field.default
        else:
            yield from fields(inner, before + (f"{name}.NAME." if name in NAMED else f"{name}."))


def test_every_field_of_the_file_is_a_row():
    assert set(rows("The file")) == {name for name, _ in fields(GatewayConfig)}


def test_the_defaults_on_the_page_are_those_of_the_code():
    told = rows("The file")
    for name, default in fields(GatewayConfig):
        value = told[name].strip("`")
        if default is PydanticUndefined or default in (None, ""):
            assert not told[name].startswith("`"), name
        elif isinstance(default, bool):
            assert value == str(default).lower(), name
        elif hasattr(default, "total_seconds"):
            seconds = default.total_seconds()
            assert value == (f"{seconds:g}s" if seconds >= 1 else f"{seconds * 1000:g}ms"), name
        else:
            assert value == str(default), name


def test_every_option_of_a_route_is_a_row():
    told = rows("Options of a route")
    given = {"max_age": "5m", "auth_methods": "otp,hwk", "app": "shop"}
    routes = Routes({"shop": "shop"})
    for name, default in told.items():
        routes.read({name: given.get(name) or default.strip("`")})
    defaults = {name: value.strip("`") for name, value in told.items() if name not in given}
    assert routes.read(defaults) == Route()
    assert len(told) == len(Route.__slots__) - 1, "the audience comes from the app"


def test_every_header_is_a_row():
    assert set(rows("Headers")) >= set(IDENTITY_HEADERS)


def test_the_example_of_the_page_is_a_valid_file(tmp_path: Path):
    (example,) = re.findall(r"^```toml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    (tmp_path / "token").touch(0o600)
    file = tmp_path / "gateway.toml"
    file.write_text(example)
    assert load_gateway_config(file).routes().read({"app": "shop"}).audience == "shop"
