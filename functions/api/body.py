"""Request bodies: bounded before they are read, JSON and nothing else, every wrong field named, no value repeated."""

import re
from functools import cache
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from pydantic import TypeAdapter, ValidationError

from functions.api.problem import invalid
from functions.domain.errors import Rejected

T = TypeVar("T")
LIMIT_BYTES = 64 * 1024
JSON = re.compile(r"application/([a-z0-9.+-]+\+)?json", re.IGNORECASE)


async def raw(request: Request) -> bytes:
    """The body; Rejected as soon as it is longer than any request of ours may be, or says it is no JSON.

    A type that a web page may send without asking (text/plain, a form) is refused, so that no page somewhere else can
    spend credits through a visitor's browser.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    if not JSON.fullmatch(kind):
        raise Rejected("unsupported_media_type", "the body must be JSON: send Content-Type: application/json")
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > LIMIT_BYTES:
        raise _too_large()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LIMIT_BYTES:
            raise _too_large()
    return bytes(body)


Raw = Annotated[bytes, Depends(raw)]


def parse(shape: type[T], data: bytes) -> T:
    """JSON as this shape; `invalid_json` names the position, Invalid every field that is wrong."""
    try:
        value: T = _adapter(shape).validate_json(data, strict=True)  # type: ignore[arg-type]
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        if found[0]["type"] == "json_invalid":
            raise Rejected("invalid_json", found[0]["msg"]) from None
        raise invalid(found) from None
    return value


def documented(shape: type) -> dict[str, Any]:
    """The body's schema for OpenAPI, where FastAPI cannot see it."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _ref(shape)}}}}


def schemas(*shapes: type) -> dict[str, Any]:
    """The JSON Schemas that `documented` points to, for OpenAPI's components."""
    found: dict[str, Any] = {}
    for shape in shapes:
        schema = _adapter(shape).json_schema(ref_template="#/components/schemas/{model}")
        found |= schema.pop("$defs", {}) | {shape.__name__: schema}
    return found


def _ref(shape: type) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{shape.__name__}"}


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


def _too_large() -> Rejected:
    return Rejected("too_large", f"a request may have {LIMIT_BYTES} bytes; a prompt may have 4000 characters")
