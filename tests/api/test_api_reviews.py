"""Reviews over REST: a hundred decisions in one call, each with a result of its own."""

import dataclasses
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from caller import Caller, problem
from live import Stack

from functions.adapters import storage
from functions.config import config
from functions.domain.event import Actor
from functions.domain.job import State


@pytest.fixture
def pictures(stack: Stack, caller: Caller) -> list[str]:
    """Three pictures of the caller's that wait for a decision."""
    job_id = caller.post("/v1/jobs", stack.request(images=3)).json()["id"]
    stack.wait(job_id, State.AWAITING_REVIEW)
    return [artifact["id"] for artifact in caller.get(f"/v1/jobs/{job_id}").json()["artifacts"]]


def accept(artifact_id: str, collection_id: str | None = "herons") -> dict[str, str | None]:
    return {"artifact_id": artifact_id, "decision": "accept", "collection_id": collection_id}


def discard(artifact_id: str) -> dict[str, str | None]:
    return {"artifact_id": artifact_id, "decision": "discard", "reason": "blurred"}


def test_each_decision_has_its_own_result(stack: Stack, caller: Caller, pictures: list[str]) -> None:
    first, second, third = pictures
    decisions = [accept(first), discard(second), accept(third, None), discard("nobody-s-00")]
    results = caller.post("/v1/reviews", {"decisions": decisions}).json()["results"]
    assert [(one["artifact_id"], one["status"], one["code"]) for one in results] == [
        (first, "accepted", None),
        (second, "discarded", None),
        (third, "refused", "collection_missing"),
        ("nobody-s-00", "refused", "unknown_artifact"),
    ]
    kept = caller.get(f"/v1/artifacts/{first}").json()
    assert (kept["decision"], kept["collection_id"]) == ("accept", "herons")
    key = f"collections/herons/{first}.png"
    assert storage.sha256(config().collections_bucket, key) == kept["sha256"]


def test_the_last_decision_completes_the_job(stack: Stack, caller: Caller, pictures: list[str]) -> None:
    caller.post("/v1/reviews", {"decisions": [accept(one) for one in pictures]})
    job_id = caller.get(f"/v1/artifacts/{pictures[0]}").json()["job_id"]
    assert caller.get(f"/v1/jobs/{job_id}").json()["state"] == "completed"


def test_a_picture_is_decided_once(caller: Caller, pictures: list[str]) -> None:
    results = caller.post("/v1/reviews", {"decisions": [accept(pictures[0]), discard(pictures[0])]}).json()["results"]
    assert [(one["status"], one["code"]) for one in results] == [("accepted", None), ("refused", "already_decided")]


def test_decisions_sent_again_under_their_key_get_the_same_results(caller: Caller, pictures: list[str]) -> None:
    key, body = {"Idempotency-Key": uuid.uuid4().hex}, {"decisions": [accept(pictures[0]), discard(pictures[1])]}
    first = caller.post("/v1/reviews", body, headers=key).json()
    assert caller.post("/v1/reviews", body, headers=key).json() == first
    assert [one["status"] for one in first["results"]] == ["accepted", "discarded"]


def test_a_stranger_decides_nothing_and_an_admin_may(
    stranger: Caller, calling_as: Callable[..., Caller], pictures: list[str]
) -> None:
    [result] = stranger.post("/v1/reviews", {"decisions": [accept(pictures[0])]}).json()["results"]
    assert (result["status"], result["code"]) == ("refused", "unknown_artifact")
    [result] = calling_as("root", "ADMIN").post("/v1/reviews", {"decisions": [accept(pictures[0])]}).json()["results"]
    assert result["status"] == "accepted"


def test_malformed_reviews_are_refused_whole(caller: Caller) -> None:
    problem(caller.post("/v1/reviews", {"decisions": []}), 422, "invalid_request", "decisions")
    problem(caller.post("/v1/reviews", {"decisions": [discard("x")] * 101}), 422, "invalid_request", "decisions")
    wrong = {"decisions": [{"artifact_id": "x", "decision": "maybe"}]}
    problem(caller.post("/v1/reviews", wrong), 422, "invalid_request", "decisions.0.decision")


def restore(artifact_id: str) -> dict[str, str | None]:
    return {"artifact_id": artifact_id, "decision": "restore"}


def decided(caller: Caller, *decisions: dict[str, str | None]) -> list[tuple[str, str | None]]:
    results = caller.post("/v1/reviews", {"decisions": list(decisions)}).json()["results"]
    return [(one["status"], one["code"]) for one in results]


def test_a_discard_can_be_undone_and_nothing_else_can(caller: Caller, pictures: list[str]) -> None:
    first, second, third = pictures
    assert decided(caller, discard(first), restore(first), restore(first)) == [
        ("discarded", None),
        ("restored", None),
        ("refused", "not_discarded"),
    ]
    assert caller.get(f"/v1/artifacts/{first}/content").status_code == 200
    assert decided(caller, accept(second), restore(second)) == [("accepted", None), ("refused", "not_discarded")]
    assert decided(caller, discard(first), restore(first), accept(first)) == [
        ("discarded", None),
        ("restored", None),
        ("accepted", None),
    ]
    assert decided(caller, restore(third)) == [("refused", "not_discarded")]


def test_of_two_curators_at_once_one_wins_and_the_other_is_told_what_happened(
    caller: Caller, calling_as: Callable[..., Caller], user: str, pictures: list[str]
) -> None:
    both = [caller, calling_as("root", "ADMIN")]
    for picture in pictures:
        with ThreadPoolExecutor() as at_once:
            one, other = at_once.map(
                lambda who, what, id=picture: who.post("/v1/reviews", {"decisions": [what]}).json()["results"][0],
                both,
                [accept(picture), discard(picture)],
            )
        assert sorted([one["status"] == "refused", other["status"] == "refused"]) == [False, True]
        refused = one if one["status"] == "refused" else other
        winner = "root" if refused is one else user
        assert refused["code"] == "already_decided"
        assert f"by {winner} at" in refused["detail"]


def test_the_queue_shows_ones_own_pictures_and_an_administrator_everybodys(
    caller: Caller, stranger: Caller, calling_as: Callable[..., Caller], user: str, pictures: list[str]
) -> None:
    def ids(who: Caller, query: str = "") -> list[str]:
        return [one["id"] for one in who.get(f"/v1/reviews?limit=100{query}").json()["pictures"]]

    assert ids(caller) == pictures
    assert ids(stranger) == ids(stranger, f"&user_id={user}") == []
    root = calling_as("root", "ADMIN")
    assert ids(root, f"&user_id={user}") == pictures
    assert ids(caller, "&standing=accepted") == []
    assert (
        ids(caller, "&model=another") == ids(caller, "&tag=another") == ids(caller, "&until=2020-01-01T00:00:00Z") == []
    )
    assert ids(caller, "&workflow_id=txt2img&since=2020-01-01T00:00:00Z") == pictures
    decided(caller, accept(pictures[0]), discard(pictures[1]))
    assert ids(caller, "&collection_id=herons&standing=accepted") == pictures[:1]
    assert ids(caller, "&standing=discarded") == pictures[1:2]
    problem(caller.get("/v1/reviews?standing=lost"), 422, "invalid_request", "standing")
    problem(caller.get("/v1/reviews?color=red"), 422, "invalid_request", "color")


def test_the_queue_comes_in_pages(caller: Caller, pictures: list[str]) -> None:
    seen, path = [], "/v1/reviews?limit=1"
    while path:
        page = caller.get(path).json()
        seen += [one["id"] for one in page["pictures"]]
        path = page["next_cursor"] and f"/v1/reviews?limit=1&cursor={page['next_cursor']}"
    assert seen == pictures


def test_a_token_that_names_collections_opens_no_others(stack: Stack, user: str, pictures: list[str]) -> None:
    named = Actor(user_id=user, role="CURATOR", collections=("herons",))
    caller = Caller(stack.api_url, dataclasses.replace(stack.platform, actor=named).token)
    assert decided(caller, accept(pictures[0], "storks"), accept(pictures[0], "herons")) == [
        ("refused", "collection_not_yours"),
        ("accepted", None),
    ]


def test_storage_is_reported_to_administrators(
    caller: Caller, calling_as: Callable[..., Caller], user: str, pictures: list[str]
) -> None:
    problem(caller.get("/v1/admin/storage"), 403, "role_not_allowed")
    said = calling_as("root", "ADMIN").get("/v1/admin/storage?users=1000").json()
    assert {one["name"]: one["pictures"] for one in said["by_user"]}[user] == 3
    assert {one["name"] for one in said["by_standing"]} <= {
        *("undecided", "accepted", "discarded", "delivered", "moved", "purged"),
    }
    assert said["by_age"][0]["name"] == "up to a day"
    assert said["stored"]["bytes"] > 0
