"""Pictures over REST: for their owner, exactly as rendered, and gone when discarded."""

import hashlib
import io
from collections.abc import Callable
from typing import Any

import pytest
from caller import Caller, problem
from live import Stack
from PIL import Image

from functions.domain.job import State


@pytest.fixture
def picture(stack: Stack, caller: Caller) -> dict[str, Any]:
    """A picture of the caller's that waits for a decision."""
    job_id = caller.post("/v1/jobs", stack.request(width=128)).json()["id"]
    stack.wait(job_id, State.AWAITING_REVIEW)
    found: dict[str, Any] = caller.get(f"/v1/jobs/{job_id}").json()["artifacts"][0]
    return found


def test_the_content_is_the_picture_byte_for_byte(caller: Caller, picture: dict[str, Any]) -> None:
    answer = caller.get(f"/v1/artifacts/{picture['id']}/content")
    assert hashlib.sha256(answer.content).hexdigest() == picture["sha256"]
    assert Image.open(io.BytesIO(answer.content)).size == (128, 64)
    assert answer.headers["content-type"] == picture["content_type"] == "image/png"
    assert answer.headers["content-length"] == str(picture["size_bytes"])
    assert answer.headers["etag"] == f'"{picture["sha256"]}"'
    assert answer.headers["content-disposition"] == f'inline; filename="{picture["id"]}.png"'
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_who_has_a_picture_is_not_sent_it_again(caller: Caller, picture: dict[str, Any]) -> None:
    for kind in ("content", "thumbnail"):
        etag = caller.get(f"/v1/artifacts/{picture['id']}/{kind}").headers["etag"]
        answer = caller.get(f"/v1/artifacts/{picture['id']}/{kind}", headers={"If-None-Match": f'"other", W/{etag}'})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)


def test_a_thumbnail_is_a_small_webp(caller: Caller, picture: dict[str, Any]) -> None:
    answer = caller.get(f"/v1/artifacts/{picture['id']}/thumbnail")
    small = Image.open(io.BytesIO(answer.content))
    assert (answer.headers["content-type"], small.format) == ("image/webp", "WEBP")
    assert max(small.size) <= 384


def test_a_picture_is_its_owner_s_and_an_admin_s(
    caller: Caller, stranger: Caller, calling_as: Callable[..., Caller], picture: dict[str, Any]
) -> None:
    for part in ("", "/content", "/thumbnail"):
        problem(stranger.get(f"/v1/artifacts/{picture['id']}{part}"), 404, "unknown_artifact")
        assert calling_as("root", "ADMIN").get(f"/v1/artifacts/{picture['id']}{part}").status_code == 200


def test_a_discarded_picture_is_gone_also_for_who_has_its_etag(caller: Caller, picture: dict[str, Any]) -> None:
    body = {"decisions": [{"artifact_id": picture["id"], "decision": "discard"}]}
    assert caller.post("/v1/reviews", body).json()["results"][0]["status"] == "discarded"
    held = {"If-None-Match": f'"{picture["sha256"]}"'}
    for part in ("", "/content", "/thumbnail"):
        problem(caller.get(f"/v1/artifacts/{picture['id']}{part}", headers=held), 404, "unknown_artifact")
