"""Values: typing errors and combinations that cannot work are refused with a reason; the README tells of every one."""

import json
import re
from typing import Any

import pytest
import yaml
from chart import CHART, EXTERNAL, template
from values_table import explained, renewed

VALUES = (CHART / "values.yaml").read_text()
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
TRIAL = ("--set", "trial.enabled=true")


@pytest.mark.parametrize(
    "typo",
    [
        "pool=1",
        "pools[0].name=a,pools[0].maxReplica=2",
        "pools[0].name=a,pools[0].cache.typ=pvc",
        "pools[0].maxReplicas=2",
        "pools[0].name=Not_A_Name",
        "functions.submitt.minScale=1",
        "functions.submit.minscale=1",
        "functions.submit.timeoutSeconds=10",
        "broker.class=MTChannelBroker",
        "broker.delivery.timeout=30s",
        "networkPolicy.enable=false",
        "networkPolicy.enabled=maybe",
        "monitoring.serviceMonitor.on=true",
        "settings.LEASES=3",
        "settings.DATABASE_URL=postgres",
        "image.tag=latest",
        "image.digest=abc",
        "trial.enable=true",
        "api.visibility=public",
        "poolDefaults.name=a",
        "poolDefaults.comfyuiArgs={--listen=0.0.0.0}",
        "poolDefaults.comfyuiArgs={--listen}",
        "s3.buckets.modles=m",
    ],
)
def test_a_typing_error_is_refused(typo: str) -> None:
    done = template(*TRIAL, "--set", typo)
    assert done.returncode != 0
    assert "values don't meet the specifications" in done.stderr


def test_every_object_of_the_schema_is_closed_but_those_that_are_kubernetes_own() -> None:
    opened = []

    def walk(schema: Any, at: str) -> None:
        if not isinstance(schema, dict):
            return
        if (
            schema.get("type") == "object"
            and "properties" in schema
            and schema.get("additionalProperties") is not False
        ):
            opened.append(at)
        for name, inner in {**schema.get("properties", {}), **schema.get("$defs", {})}.items():
            walk(inner, f"{at}.{name}")
        walk(schema.get("items"), f"{at}[]")

    walk(SCHEMA, "")
    assert opened == [".global"]


def test_schema_and_defaults_name_the_same_values() -> None:
    def names(schema: dict[str, Any], values: Any, at: str) -> None:
        if "$ref" in schema:
            schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
        if isinstance(values, dict) and "properties" in schema:
            free = {"name", "minScale", "maxScale", "concurrency", "timeoutSeconds", "resources"}  # defaults elsewhere
            open_ = ("database.keys", "settings", "broker.config")
            if at not in open_:
                assert set(schema["properties"]) - free == set(values) - free, at
            for name, inner in values.items():
                names(schema["properties"][name], inner, f"{at}.{name}".strip("."))

    names(SCHEMA, yaml.safe_load(VALUES), "")


@pytest.mark.parametrize("name", EXTERNAL)
def test_what_production_cannot_do_without_is_asked_for_by_name(name: str) -> None:
    others = [part for other in EXTERNAL if other != name for part in ("--set", f"{other}={EXTERNAL[other]}")]
    done = template(*others)
    assert done.returncode != 0
    assert f"{name}: " in done.stderr


@pytest.mark.parametrize(
    ("sets", "remedy"),
    [
        ("api.visibility=external", 'set trial.identity=""'),
        ("database.existingSecret=mine", "set trial.enabled=false"),
        ("broker.class=RabbitMQBroker", "broker.config"),
        ("pools[0].name=a,pools[1].name=a", "is there twice"),
    ],
)
def test_a_combination_that_cannot_work_is_refused_with_a_remedy(sets: str, remedy: str) -> None:
    done = template(*TRIAL, "--set", sets)
    assert done.returncode != 0
    assert remedy in done.stderr


def test_every_value_does_something() -> None:
    templates = "".join(path.read_text() for path in (CHART / "templates").rglob("*.*"))
    used = set(re.findall(r"\.([A-Za-z0-9]+)", templates))
    whole = ("functions.", "s3.buckets.", "broker.delivery.")  # templates go through these without naming each
    leaves = {path.split(".")[-1] for path, _ in explained(VALUES) if not path.startswith(whole)}
    assert leaves - used == set()


def test_every_value_is_explained() -> None:
    told = [path for path, _ in explained(VALUES)]

    def leaves(values: Any, at: str) -> list[str]:
        if at in told or not isinstance(values, dict) or not values:
            return [at]
        return [leaf for name, inner in values.items() for leaf in leaves(inner, f"{at}.{name}".strip("."))]

    assert [leaf for leaf in leaves(yaml.safe_load(VALUES), "") if leaf not in told] == []


def test_the_readme_tells_of_every_value() -> None:
    readme = (CHART / "README.md").read_text()
    assert renewed(readme, VALUES) == readme, "run `python tests/charts/values_table.py`"
