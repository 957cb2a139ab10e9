"""What is published of the events: a JSON Schema each, and the Triggers that bring them to who must hear them."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.openapi.models import Schema
from typer.testing import CliRunner

from functions.adapters import shapes
from functions.ctl import SCHEMAS, app
from functions.domain.event import BY_TYPE, Asked
from functions.serve import VERBS

ROOT = Path(__file__).parents[1]
FILES = sorted(SCHEMAS.glob("*.json"))


def references(schema: Any) -> set[str]:
    """Every `$ref` in a schema."""
    if isinstance(schema, dict):
        own = {schema["$ref"]} if "$ref" in schema else set()
        return own.union(*map(references, schema.values()))
    return set().union(*map(references, schema)) if isinstance(schema, list) else set()


def test_the_published_schemas_are_what_the_code_says() -> None:
    said = CliRunner().invoke(app, ["schemas", str(SCHEMAS), "--check"])
    assert said.exit_code == 0, said.output


def test_a_schema_that_is_not_what_the_code_says_is_named_and_can_be_written_anew(tmp_path: Path) -> None:
    run = CliRunner()
    assert run.invoke(app, ["schemas", str(tmp_path)]).exit_code == 0
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in FILES}
    (tmp_path / FILES[0].name).write_text("{}")
    said = run.invoke(app, ["schemas", str(tmp_path), "--check"])
    assert said.exit_code == 1
    assert FILES[0].name in said.output


def test_there_is_one_file_an_event_type_and_none_of_an_event_that_is_gone() -> None:
    assert {file.stem for file in FILES} == set(BY_TYPE)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_published_schema_is_json_schema(file: Path) -> None:
    schema = json.loads(file.read_text())
    Schema.model_validate(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == file.stem
    assert schema["type"] == "object"
    assert {reference.removeprefix("#/$defs/") for reference in references(schema)} <= set(schema.get("$defs", {}))


def test_a_wish_with_a_field_that_nobody_knows_is_no_valid_wish() -> None:
    asked = [shapes.schemas()[type_] for type_, cls in BY_TYPE.items() if issubclass(cls, Asked)]
    assert [schema["additionalProperties"] for schema in asked] == [False, False, False, False]


def wants(filters: list[dict[str, Any]]) -> set[str]:
    """The types that a Trigger's filters name."""
    exact = [one for part in filters for one in part.get("any", [part])]
    return {one["exact"]["type"] for one in exact}


def test_every_event_is_brought_to_the_function_that_must_hear_it_and_to_no_other() -> None:
    triggers = list(yaml.safe_load_all((ROOT / "k8s" / "triggers.yaml").read_text()))
    brought = {t["spec"]["subscriber"]["ref"]["name"]: wants(t["spec"]["filters"]) for t in triggers}
    heard: dict[str, set[str]] = {}
    for type_, cls in BY_TYPE.items():
        if cls.heard_by:
            heard.setdefault(f"generator-{cls.heard_by}", set()).add(type_)
    assert {name: types for name, types in brought.items() if types & set(BY_TYPE)} == heard


def test_every_function_that_hears_an_event_is_served_and_has_a_module_of_its_name() -> None:
    hearing = {cls.heard_by for cls in BY_TYPE.values() if cls.heard_by}
    assert hearing | {"sweep"} == set(VERBS)
    for verb in VERBS:
        assert callable(getattr(importlib.import_module(f"functions.{verb}"), verb))


def test_a_verbs_module_names_every_event_it_hears() -> None:
    for cls in BY_TYPE.values():
        if cls.heard_by:
            about = importlib.import_module(f"functions.{cls.heard_by}").__doc__ or ""
            assert cls.name in about.partition("says")[0], f"{cls.heard_by} hears {cls.name}"
