"""Manifests against the schemas of their custom resource definitions in `crds/`, copied unchanged from

KEDA, Knative Eventing and Serving, and the Prometheus operator; `crds/README.md` has releases and licences.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
_TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}


def manifests(name: str) -> list[dict[str, Any]]:
    """The documents of a file of manifests, by its path from the root of the project."""
    return [one for one in yaml.safe_load_all((ROOT / name).read_text()) if one]


def errors(manifest: dict[str, Any]) -> list[str]:
    """What is wrong with a manifest by its CRD's schema: unknown, missing and mistyped fields, one line each."""
    schema = _schemas()[manifest["apiVersion"], manifest["kind"]]
    rest = {name: member for name, member in manifest.items() if name not in ("apiVersion", "kind", "metadata")}
    return list(_wrong(schema, rest, at=""))


@cache
def _schemas() -> dict[tuple[str, str], dict[str, Any]]:
    found = {}
    for path in sorted((Path(__file__).parent / "crds").glob("*.yaml")):
        crd = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        for version in crd["spec"]["versions"]:
            name = f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"]
            found[name] = version["schema"]["openAPIV3Schema"]
    return found


def _wrong(schema: dict[str, Any], value: Any, *, at: str) -> Iterator[str]:
    """Objects with `properties` are closed, unlike in plain JSON Schema: a misspelt field is the common mistake."""
    if schema.get("x-kubernetes-int-or-string"):
        if not isinstance(value, int | str):
            yield f"{at}: neither integer nor string"
        return
    kind = _TYPES.get(schema.get("type", ""))
    if kind and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
        yield f"{at}: not of type {schema['type']}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is none of {schema['enum']}"
    if "minimum" in schema and value < schema["minimum"]:
        yield f"{at}: below {schema['minimum']}"
    if isinstance(value, list):
        for place, item in enumerate(value):
            yield from _wrong(schema.get("items", {}), item, at=f"{at}[{place}]")
    if isinstance(value, dict):
        yield from (f"{at}.{name}: missing" for name in schema.get("required", ()) if name not in value)
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        for name, member in value.items():
            if name in known:
                yield from _wrong(known[name], member, at=f"{at}.{name}")
            elif isinstance(others, dict):
                yield from _wrong(others, member, at=f"{at}.{name}")
            elif known and not others and not schema.get("x-kubernetes-preserve-unknown-fields"):
                yield f"{at}.{name}: unknown"
