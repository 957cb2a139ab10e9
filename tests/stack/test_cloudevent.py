import json

import pytest

from functions.stack import cloudevent
from functions.stack.cloudevent import Malformed

BINARY = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
STRUCTURED = {"content-type": "application/cloudevents+json; charset=utf-8"}
MEMBERS = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


def test_the_bytes_of_a_binary_event_are_not_touched() -> None:
    event = cloudevent.read({**BINARY, "content-type": "application/json"}, b'{"a" : 1.0 ,"broken')
    assert event.data == b'{"a" : 1.0 ,"broken'
    assert event.headers() == {**BINARY, "content-type": "application/json"}


def test_a_structured_event_is_written_in_binary_mode() -> None:
    body = {**MEMBERS, "subject": "j", "attempt": 2, "urgent": True, "absent": None, "data": {"ü": [1, None]}}
    event = cloudevent.read(STRUCTURED, json.dumps(body).encode())
    assert json.loads(event.data) == {"ü": [1, None]}
    assert event.headers() == {
        **BINARY,
        "ce-subject": "j",
        "ce-attempt": "2",
        "ce-urgent": "true",
        "content-type": "application/json",
    }


def test_structured_data_may_be_base64_text_or_absent() -> None:
    base64 = {**MEMBERS, "data_base64": "AAE=", "datacontenttype": "image/png"}
    assert cloudevent.read(STRUCTURED, json.dumps(base64).encode()).data == b"\0\1"
    text = {**MEMBERS, "data": "hello", "datacontenttype": "text/plain"}
    assert cloudevent.read(STRUCTURED, json.dumps(text).encode()).data == b"hello"
    assert cloudevent.read(STRUCTURED, json.dumps(MEMBERS).encode()).data == b""


def test_what_a_header_cannot_hold_is_percent_encoded_both_ways() -> None:
    event = cloudevent.read({**BINARY, "ce-subject": "%C3%BC%20%25"}, b"")
    assert event.attributes["subject"] == "ü %"
    assert event.headers()["ce-subject"] == "%C3%BC%20%25"


@pytest.mark.parametrize("name", ["ce-specversion", "ce-id", "ce-source", "ce-type"])
def test_a_required_attribute_that_is_missing_or_empty_is_named(name: str) -> None:
    for headers in ({**BINARY, name: ""}, {k: v for k, v in BINARY.items() if k != name}):
        with pytest.raises(Malformed, match=name.removeprefix("ce-")):
            cloudevent.read(headers, b"{}")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({**BINARY, "ce-specversion": "0.3"}, b""),
        ({"content-type": "application/json"}, b"{}"),
        ({"content-type": "application/cloudevents-batch+json"}, b"[]"),
        (STRUCTURED, b"{"),
        (STRUCTURED, b"[]"),
        (STRUCTURED, json.dumps({**MEMBERS, "data_base64": "?"}).encode()),
        (STRUCTURED, json.dumps({**MEMBERS, "extra": {"no": 1}}).encode()),
    ],
)
def test_what_is_no_event_is_refused(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(Malformed):
        cloudevent.read(headers, body)


def test_an_event_in_json_holds_its_data_or_else_base64() -> None:
    assert cloudevent.read(BINARY, b'{"a":1}').as_json()["data"] == {"a": 1}
    assert cloudevent.read(BINARY, b"\xff").as_json()["data_base64"] == "/w=="
