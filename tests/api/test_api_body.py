"""What a body must be, and how a wrong one is refused: by field, without repeating it."""

import json
from typing import Any

import pytest

from functions.api import body
from functions.api.problem import Invalid
from functions.domain.errors import Rejected
from functions.domain.request import JobRequest

VALID = {"prompt": "a heron", "model": "river.safetensors"}


def refused(**fields: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        body.parse(JobRequest, json.dumps(VALID | fields).encode())
    return caught.value


def test_a_request_with_a_prompt_and_a_model_is_enough() -> None:
    assert body.parse(JobRequest, json.dumps(VALID).encode()) == JobRequest(**VALID)


@pytest.mark.parametrize(
    ("field", "value", "right"),
    [
        ("steps", "20", "must be a whole number"),
        ("steps", 1.5, "must be a whole number"),
        ("steps", True, "must be a whole number"),
        ("steps", 900, "must be at most 200"),
        ("cfg", "7", "must be a number"),
        ("cfg", -1, "must be at least 0"),
        ("prompt", "", "must not be empty"),
        ("prompt", 7, "must be a text"),
        ("prompt", "x" * 4001, "must have at most 4000 characters"),
        ("prompt", "a\0b", "must not hold a NUL character"),
        ("seed", True, "must be a whole number from 0 to 2^64-1, or its decimal digits in a string"),
        ("seed", 1.5, "must be a whole number from 0 to 2^64-1, or its decimal digits in a string"),
        ("stpes", 20, "there is no such field"),
        ("model", None, "must be a text"),
    ],
)
def test_a_wrong_field_is_named_with_what_would_be_right(field: str, value: Any, right: str) -> None:
    [only] = refused(**{field: value}).errors
    assert (only.field, only.detail) == (field, right)


def test_fields_inside_fields_are_named_by_their_path() -> None:
    no = refused(loras=[{"id": "ink"}, {"id": "ink", "strength": 9}], workflow={"id": 3})
    assert [one.field for one in no.errors] == ["workflow.id", "loras.1.strength"]


def test_a_nul_is_found_wherever_it_hides() -> None:
    for field, value in {"workflow": {"id": "a\0"}, "loras": [{"id": "a\0"}], "sampler": "a\0"}.items():
        [only] = refused(**{field: value}).errors
        assert only.detail == "must not hold a NUL character"


def test_every_wrong_field_is_named_at_once() -> None:
    assert [one.field for one in refused(steps=0, cfg=99, images=0).errors] == ["steps", "cfg", "images"]


def test_broken_json_is_refused_by_its_position_and_not_repeated() -> None:
    with pytest.raises(Rejected) as caught:
        body.parse(JobRequest, b'{"prompt": "a secret garden", oops')
    assert caught.value.code == "invalid_json"
    assert "line 1 column" in caught.value.detail
    assert "secret" not in caught.value.detail


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b'"text"', b"\xff\xfe", b"{" * 5000])
def test_what_is_no_request_at_all_is_refused(data: bytes) -> None:
    with pytest.raises(Rejected):
        body.parse(JobRequest, data)


def test_a_field_name_of_any_length_is_repeated_only_in_part() -> None:
    assert len(refused(**{"x" * 5000: 1}).detail) < 200
