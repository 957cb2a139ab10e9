"""The wire shapes of events: JSON in and out of the domain's dataclasses, by pydantic, and published as JSON Schema."""

import json
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from functions.domain.errors import Rejected
from functions.domain.event import BY_TYPE, Actor, Asked, Event

T = TypeVar("T")


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


def dump(event: Event) -> bytes:
    """The event's `data`, as JSON."""
    shape, value = (event.shape, event.asked) if isinstance(event, Asked) else (type(event), event)
    return _adapter(shape).dump_json(value)


def parse(shape: type[T], data: bytes) -> T:
    """JSON as this shape; Rejected names the first field that is wrong and what would be right."""
    try:
        value: T = _adapter(shape).validate_json(data, strict=True)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        # An unknown field is named as it was sent, so its name is whatever somebody chose to send.
        where = ".".join(_path(first["loc"], data)).encode("unicode_escape").decode()[:100]
        raise Rejected("invalid_request", f"{where or 'data'}: {first['msg']}", field=where or None) from None
    return value


def _path(loc: tuple[int | str, ...], data: bytes) -> list[str]:
    """The names on the way to what is wrong, as they were sent: pydantic's own names for the members of a union, which
    stand between them, are left out."""
    path, value = [], json.loads(data, parse_int=str) if loc else None
    for part in loc:
        if isinstance(value, dict) and isinstance(part, str):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int):
            value = value[part]
        else:
            continue
        path.append(str(part))
    return path


def event(type_: str, *, subject: str, data: bytes, actor: Actor | None) -> Event:
    """The event of this type attribute; Rejected when it is none of ours or its data does not fit."""
    cls = BY_TYPE.get(type_)
    if cls is None:
        raise Rejected("unknown_event", f"no function here hears {type_!r}")
    if issubclass(cls, Asked):
        if actor is None:
            raise Rejected("unsigned", "events from outside carry a signed `authtoken` extension")
        return cls.of(job_id=subject, actor=actor, asked=parse(cls.shape, data))
    return parse(cls, data)


def schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schema of every event's `data`, by type attribute."""
    found = {}
    for type_, cls in sorted(BY_TYPE.items()):
        shape = cls.shape if issubclass(cls, Asked) else cls
        found[type_] = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": type_} | _adapter(
            shape
        ).json_schema()
    return found


def canonical(data: bytes) -> bytes:
    """JSON in the canonical form of RFC 8785, whatever a broker did to its spelling on the way; Rejected when it is no
    JSON, or holds a number that JSON readers would not agree on."""
    import rfc8785

    try:
        return rfc8785.dumps(json.loads(data, parse_int=_number))
    except (ValueError, OverflowError, RecursionError) as error:
        raise Rejected("invalid_request", f"the event's data is not plain JSON: {error.__class__.__name__}") from None


def _number(digits: str) -> int | float:
    """A whole number as RFC 8785 means it: a double, so that a signer in JavaScript comes to the same bytes."""
    exact = int(digits)
    return exact if abs(exact) < 2**53 else float(exact)
