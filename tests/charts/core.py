"""Manifests of Kubernetes' own kinds, held to the models that its Python client is generated from."""

import re
from collections.abc import Iterator
from typing import Any

from kubernetes import client

_INNER = re.compile(r"(List\[|Dict\[str, |list\[|dict\(str, )(.+)[\])]")
_SCALARS = {"str": str, "int": int, "bool": bool, "float": (int, float), "datetime": str, "bytes": str}


def errors(manifest: dict[str, Any]) -> list[str]:
    """What is wrong with a manifest: unknown and mistyped fields, one line each."""
    version = manifest["apiVersion"].rpartition("/")[2].capitalize()
    return list(_wrong(f"{version}{manifest['kind']}", manifest, at=""))


def _wrong(kind: str, value: Any, *, at: str) -> Iterator[str]:
    if inner := _INNER.fullmatch(kind):
        many = list if inner[1].lower().startswith("list") else dict
        if not isinstance(value, many):
            yield f"{at}: not of type {kind}"
            return
        for place, item in enumerate(value) if isinstance(value, list) else value.items():
            yield from _wrong(inner[2], item, at=f"{at}[{place}]")
    elif kind in _SCALARS:
        if not isinstance(value, _SCALARS[kind]) or (isinstance(value, bool) and kind != "bool"):
            yield f"{at}: {value!r} is not of type {kind}"
    elif kind != "object":
        model = getattr(client, kind)
        names = {written: name for name, written in model.attribute_map.items()}
        if not isinstance(value, dict):
            yield f"{at}: not of type {kind}"
            return
        for name, member in value.items():
            if name not in names:
                yield f"{at}.{name}: unknown"
            else:
                yield from _wrong(model.openapi_types[names[name]], member, at=f"{at}.{name}")
