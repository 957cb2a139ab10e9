"""Knative Triggers as the local Broker understands them: who hears what, and how often they are tried.

Read from the very manifests a cluster gets, so that a wrong filter shows on a laptop.
Source of the rules: Knative Eventing 1.22 (`eventing.knative.dev/v1`).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_DURATION = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?")
_EVENT = Mapping[str, str]

_COMPARE: dict[str, Callable[[str, str], bool]] = {
    "exact": str.__eq__,
    "prefix": str.startswith,
    "suffix": str.endswith,
}


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """How often and how long a subscriber is tried."""

    retry: int = 6  # attempts after the first
    policy: str = "exponential"  # or linear
    delay_s: float = 1.0
    timeout_s: float = 30.0  # for one attempt
    dead_letters: str | None = None  # name of the Service that hears what could not be delivered

    def pause_s(self, failures: int) -> float:
        """The wait after so many failed attempts (1, 2, 3 ...): 1, 2, 4 ... or 0, 1, 2 ... delays."""
        n = failures - 1
        return self.delay_s * (2**n if self.policy == "exponential" else n)


@dataclass(frozen=True, kw_only=True)
class Trigger:
    name: str
    subscriber: str  # name of the Service that hears it
    filters: tuple[Mapping[str, Any], ...] = ()
    delivery: Delivery = Delivery()

    def wants(self, attributes: _EVENT) -> bool:
        """Do all filters pass? No filters pass everything."""
        return all(passes(one, attributes) for one in self.filters)


def passes(one: Mapping[str, Any], attributes: _EVENT) -> bool:
    """Does one entry of `filters` let an event with these attributes through?"""
    return all(_dialect(name, rule, attributes) for name, rule in one.items())


def _dialect(name: str, rule: Any, attributes: _EVENT) -> bool:
    if name == "all":
        return all(passes(inner, attributes) for inner in rule)
    if name == "any":
        return any(passes(inner, attributes) for inner in rule)
    if name == "not":
        return not passes(rule, attributes)
    compare = _COMPARE[name]
    return all(key in attributes and compare(attributes[key], value) for key, value in rule.items())


def read(path: Path) -> list[Trigger]:
    """The Triggers in a file of manifests; ValueError names the one with a filter we cannot evaluate."""
    documents = yaml.safe_load_all(path.read_text())
    return [_trigger(found) for found in documents if found and found.get("kind") == "Trigger"]


def _trigger(manifest: Mapping[str, Any]) -> Trigger:
    name, spec = manifest["metadata"]["name"], manifest["spec"]
    filters = tuple(spec.get("filters", ()))
    if not filters and spec.get("filter"):
        filters = ({"exact": spec["filter"]["attributes"]},)
    for one in filters:
        _understand(name, one)
    return Trigger(
        name=name,
        subscriber=spec["subscriber"]["ref"]["name"],
        filters=filters,
        delivery=_delivery(spec.get("delivery", {})),
    )


def _understand(trigger: str, one: Mapping[str, Any]) -> None:
    for name, rule in one.items():
        if name in ("all", "any"):
            for inner in rule:
                _understand(trigger, inner)
        elif name == "not":
            _understand(trigger, rule)
        elif name not in _COMPARE:
            raise ValueError(f"trigger {trigger}: the local Broker cannot evaluate the filter {name!r}")


def _delivery(spec: Mapping[str, Any]) -> Delivery:
    sink = spec.get("deadLetterSink", {}).get("ref", {}).get("name")
    given = {
        "retry": spec.get("retry"),
        "policy": spec.get("backoffPolicy"),
        "delay_s": seconds(spec["backoffDelay"]) if "backoffDelay" in spec else None,
        "timeout_s": seconds(spec["timeout"]) if "timeout" in spec else None,
        "dead_letters": sink,
    }
    return Delivery(**{name: value for name, value in given.items() if value is not None})


def seconds(duration: str) -> float:
    """An ISO 8601 duration of hours, minutes and seconds, such as PT1M30S or PT0.2S, in seconds."""
    found = _DURATION.fullmatch(duration)
    if found is None or duration == "PT":
        raise ValueError(f"{duration!r} is no duration like PT1S")
    hours, minutes, rest = found.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(rest or 0)
