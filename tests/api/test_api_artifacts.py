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


def test_a_part_of_a_picture_can_be_asked_for(caller: Caller, picture: dict[str, Any]) -> None:
    path, size = f"/v1/artifacts/{picture['id']}/content", picture["size_bytes"]
    whole = caller.get(path).content
    for asked, part in {
        "bytes=0-9": whole[:10],
        "bytes=10-": whole[10:],
        "bytes=-7": whole[-7:],
        f"bytes=5-{size + 9}": whole[5:],
    }.items():
        answer = caller.get(path, headers={"Range": asked})
        assert (answer.status_code, answer.content) == (206, part)
        start = whole.index(part)
        assert answer.headers["content-range"] == f"bytes {start}-{start + len(part) - 1}/{size}"
        assert answer.headers["content-length"] == str(len(part))


@pytest.mark.parametrize("asked", ["bytes=0-1,4-5", "bytes=9-3", "bytes=x", "pages=1-2", "bytes=-"])
def test_a_range_that_makes_no_sense_is_passed_over(caller: Caller, picture: dict[str, Any], asked: str) -> None:
    answer = caller.get(f"/v1/artifacts/{picture['id']}/content", headers={"Range": asked})
    assert (answer.status_code, len(answer.content)) == (200, picture["size_bytes"])


def test_a_range_past_the_end_is_refused_with_the_size(caller: Caller, picture: dict[str, Any]) -> None:
    answer = caller.get(f"/v1/artifacts/{picture['id']}/content", headers={"Range": f"bytes={picture['size_bytes']}-"})
    problem(answer, 416, "range_invalid")
    assert answer.headers["content-range"] == f"bytes */{picture['size_bytes']}"


def test_a_part_of_another_version_is_not_mixed_with_this_one(caller: Caller, picture: dict[str, Any]) -> None:
    path = f"/v1/artifacts/{picture['id']}/content"
    for etag, status in ((f'"{picture["sha256"]}"', 206), ('"other"', 200)):
        assert caller.get(path, headers={"Range": "bytes=0-3", "If-Range": etag}).status_code == status


def test_head_says_what_get_would_bring(caller: Caller, picture: dict[str, Any]) -> None:
    for part in ("content", "thumbnail"):
        path = f"/v1/artifacts/{picture['id']}/{part}"
        said, brought = caller.session.head(caller.url + path, timeout=30), caller.get(path)
        assert (said.status_code, said.content) == (200, b"")
        for name in ("content-length", "content-type", "etag"):
            assert said.headers[name] == brought.headers[name]


def test_thumbnails_come_in_sizes(stack: Stack, caller: Caller) -> None:
    job_id = caller.post("/v1/jobs", stack.request(width=512, height=256)).json()["id"]
    stack.wait(job_id, State.AWAITING_REVIEW)
    for asked, width in ((1, 192), (192, 192), (193, 384), (384, 384), (4000, 384)):
        answer = caller.get(f"/v1/artifacts/{job_id}-00/thumbnail?size={asked}")
        assert Image.open(io.BytesIO(answer.content)).size == (width, width // 2)


def test_links_are_given_only_where_an_installation_wants_them(caller: Caller, picture: dict[str, Any]) -> None:
    problem(caller.get(f"/v1/artifacts/{picture['id']}/link"), 403, "links_disabled")


def test_the_history_of_a_picture_is_told_to_who_may_see_it_also_once_it_is_discarded(
    caller: Caller, stranger: Caller, user: str, picture: dict[str, Any]
) -> None:
    path = f"/v1/artifacts/{picture['id']}/history"
    assert caller.get(path).json()["done"] == []
    caller.post("/v1/reviews", {"decisions": [{"artifact_id": picture["id"], "decision": "discard", "reason": "dull"}]})
    [one] = caller.get(path).json()["done"]
    assert (one["decision"], one["reviewer_id"], one["reason"]) == ("discard", user, "dull")
    problem(stranger.get(path), 404, "unknown_artifact")
