"""Reviews over REST: a hundred decisions in one call, each with a result of its own."""

import uuid
from collections.abc import Callable

import pytest
from caller import Caller, problem
from live import Stack

from functions.adapters import storage
from functions.config import config
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
