"""A CloudEvent on its way through the local Broker: read from HTTP in either mode, written in binary mode.

The Broker is a neighbour, so it shares no code with the functions' own reading of events: what one side gets wrong,
the other would otherwise get wrong in the same way. The data's bytes pass through untouched in binary mode; in
structured mode they are JSON inside JSON and are written anew, as a real Broker may do too.
Source: CloudEvents 1.0, core, JSON format and HTTP protocol binding.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, unquote

_REQUIRED = ("specversion", "id", "source", "type")
_STRUCTURED = "application/cloudevents+json"
_PLAIN = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"%')
"""What a header value may hold as it is; space, quote, percent and all beyond ASCII are percent-encoded."""


class Malformed(ValueError):
    """This request is no CloudEvent; the text says what is missing or wrong."""


@dataclass(frozen=True, kw_only=True)
class CloudEvent:
    attributes: Mapping[str, str]  # datacontenttype among them
    data: bytes

    @property
    def type(self) -> str:
        return self.attributes["type"]

    def headers(self) -> dict[str, str]:
        """The HTTP headers of binary mode."""
        sent = {f"ce-{name}": quote(value, safe=_PLAIN) for name, value in self.attributes.items()}
        content_type = sent.pop("ce-datacontenttype", None)
        if content_type is not None:
            sent["content-type"] = self.attributes["datacontenttype"]
        return sent

    def with_attributes(self, **more: str) -> "CloudEvent":
        return replace(self, attributes={**self.attributes, **more})

    def as_json(self) -> dict[str, Any]:
        """The event in the JSON format; data that is no JSON stands as base64."""
        try:
            return {**self.attributes, "data": json.loads(self.data)} if self.data else {**self.attributes}
        except ValueError:
            return {**self.attributes, "data_base64": base64.b64encode(self.data).decode()}


def read(headers: Mapping[str, str], body: bytes) -> CloudEvent:
    """The event in a request or an answer; header names in lower case. Malformed when it is none."""
    content_type = headers.get("content-type", "")
    if content_type.startswith(_STRUCTURED):
        return _checked(*_structured(body))
    if content_type.startswith("application/cloudevents"):
        raise Malformed(f"{content_type} is not understood; send {_STRUCTURED} or binary mode")
    attributes = {name[3:]: unquote(value) for name, value in headers.items() if name.startswith("ce-")}
    if content_type:
        attributes["datacontenttype"] = content_type
    return _checked(attributes, body)


def is_event(headers: Mapping[str, str]) -> bool:
    """Does an answer with these headers claim to be a CloudEvent?"""
    return "ce-specversion" in headers or headers.get("content-type", "").startswith(_STRUCTURED)


def _checked(attributes: dict[str, str], data: bytes) -> CloudEvent:
    missing = [name for name in _REQUIRED if not attributes.get(name)]
    if missing:
        raise Malformed(f"required attributes are missing: {', '.join(missing)}")
    if attributes["specversion"] != "1.0":
        raise Malformed(f"specversion {attributes['specversion']} is not 1.0")
    return CloudEvent(attributes=attributes, data=data)


def _structured(body: bytes) -> tuple[dict[str, str], bytes]:
    try:
        members = json.loads(body)
        encoded = members.pop("data_base64", None)
        data = base64.b64decode(encoded, validate=True) if encoded is not None else None
    except (ValueError, AttributeError, TypeError) as error:
        raise Malformed(f"the body is no event in JSON: {error}") from None
    value = members.pop("data", None)
    attributes = {name: _text(member) for name, member in members.items() if member is not None}
    if data is None:
        data = _data_bytes(value, attributes)
    return attributes, data


def _data_bytes(value: object, attributes: dict[str, str]) -> bytes:
    if value is None:
        return b""
    media_type = attributes.setdefault("datacontenttype", "application/json").split(";")[0].strip()
    if isinstance(value, str) and not (media_type.endswith("/json") or media_type.endswith("+json")):
        return value.encode()
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _text(value: object) -> str:
    """An attribute's canonical string: booleans are lower case, numbers as they are."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value)
    raise Malformed("attributes are strings, whole numbers or booleans")
