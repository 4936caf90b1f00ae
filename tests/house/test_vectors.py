"""The cases that the clients of all languages share: each file has a schema, and is run here."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "clients/vectors"
FILES = sorted(path.stem for path in VECTORS.glob("*.json"))
SCHEMAS = {path.name: json.loads(path.read_text()) for path in VECTORS.glob("schema/*.json")}
REGISTRY: Any = Registry().with_resources(
    (name, Resource.from_contents(schema)) for name, schema in SCHEMAS.items()
)
SHARED = "common.json"


def read(name: str) -> Any:
    """A file of cases."""
    return json.loads((VECTORS / f"{name}.json").read_text())


def faults(name: str, document: object) -> list[str]:
    """The places where a file of cases breaks its schema."""
    validator = Draft202012Validator(SCHEMAS[f"{name}.json"], registry=REGISTRY)
    return [error.json_path for error in validator.iter_errors(document)]


def test_each_file_has_a_schema_and_each_schema_a_file():
    assert set(SCHEMAS) - {SHARED} == {f"{name}.json" for name in FILES}


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_schema_is_valid(name: str):
    Draft202012Validator.check_schema(SCHEMAS[name])


@pytest.mark.parametrize("name", FILES)
def test_each_file_fits_its_schema(name: str):
    assert read(name)["$schema"] == f"schema/{name}.json"
    assert faults(name, read(name)) == []


def test_the_file_that_the_page_shows_keeps_to_its_schema():
    page = (VECTORS / "README.md").read_text("utf-8")
    (block,) = re.findall(r"^```json\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert faults("cookies", json.loads(block)) == []


@pytest.mark.parametrize("name", FILES)
def test_a_field_that_no_schema_knows_is_noticed(name: str):
    document = read(name)
    document["cases"] = document["cases"][:1]
    for part in ("given", "expected"):
        document["cases"][0][part]["surprise"] = 1
        assert faults(name, document)
        del document["cases"][0][part]["surprise"]
    assert faults(name, document) == []


@pytest.mark.parametrize("name", FILES)
def test_each_id_is_used_once(name: str):
    ids = Counter(case["id"] for case in read(name)["cases"])
    assert [name for name, count in ids.items() if count > 1] == []


@pytest.mark.parametrize("name", FILES)
def test_no_case_is_there_twice(name: str):
    given = Counter(json.dumps(case["given"], sort_keys=True) for case in read(name)["cases"])
    assert [text for text, count in given.items() if count > 1] == []


LOADS = {
    (found[1], found[2])
    for folder in ("clients/python/tests", "tests")
    for path in (ROOT / folder).glob("**/test_*.py")
    for found in re.finditer(r'@each\("(\w+)"(?:, "(\w+)")?\)', path.read_text())
}


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_run_here_with_all_its_operations(name: str):
    operations = {case["given"].get("operation") for case in read(name)["cases"]}
    run = {operation for file, operation in LOADS if file == name}
    assert run in ({None}, operations)


SKIPS = sorted(ROOT.glob("clients/*/vectors.skip.json"))


@pytest.mark.parametrize("path", SKIPS, ids=lambda path: path.parent.name)
def test_each_skip_names_a_case_and_has_a_reason(path: Path):
    skipped: dict[str, str] = json.loads(path.read_text())
    cases = {f"{name}/{case['id']}" for name in FILES for case in read(name)["cases"]}
    assert set(skipped) - cases == set()
    assert [case for case, reason in skipped.items() if len(reason) < len("reason")] == []
