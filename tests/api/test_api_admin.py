"""What administrators see and do over REST, and that nobody else does."""

import re
import uuid
from collections.abc import Callable, Iterator

import pytest
from caller import Caller, problem
from live import Stack, eventually

from functions.adapters import controls, jobs, postgres, queue
from functions.api.app import make
from functions.config import config
from functions.domain.job import State

PROMPT = "a heron nobody may read of"


@pytest.fixture
def admin(calling_as: Callable[..., Caller]) -> Caller:
    return calling_as(f"admin-{uuid.uuid4().hex[:8]}", "ADMIN")


@pytest.fixture
def dead(stack: Stack, caller: Caller, user: str, gone: str) -> str:
    """A job of the user's that failed for good."""
    job_id = str(caller.post("/v1/jobs", stack.request(model=gone, prompt=PROMPT)).json()["id"])
    stack.wait(job_id, State.FAILED)
    return job_id


@pytest.fixture
def working_afterwards(stack: Stack, user: str) -> Iterator[None]:
    """Whatever is ordered here is taken back."""
    yield
    with postgres.transaction() as tx:
        for pool in config().pool_names:
            controls.resume(tx, pool)
        controls.unblock(tx, user)


def test_every_admin_path_is_for_administrators_alone(caller: Caller) -> None:
    paths = {path: methods for path, methods in make().openapi()["paths"].items() if path.startswith("/v1/admin/")}
    assert len(paths) >= 8
    for path, methods in paths.items():
        for method in methods:
            where = re.sub(r"\{\w+\}", "x", path)
            answer = caller.session.request(method, caller.url + where, json={}, timeout=30)
            problem(answer, 403, "role_not_allowed")


# --- dead jobs ---


def test_dead_jobs_are_listed_and_shown_without_what_was_asked(admin: Caller, dead: str, user: str) -> None:
    listed = admin.get("/v1/admin/dead-letters", params={"user_id": user})
    [one] = listed.json()["jobs"]
    assert (one["job_id"], one["standing"], one["code"], one["kind"], one["user_id"]) == (
        *(dead, "open", "object_missing", "permanent"),
        user,
    )
    shown = admin.get(f"/v1/admin/dead-letters/{dead}")
    assert [(error["attempt"], error["code"]) for error in shown.json()["errors"]] == [(1, "object_missing")]
    assert PROMPT not in listed.text + shown.text
    problem(admin.get("/v1/admin/dead-letters/nobody"), 404, "unknown_dead_job", "job_id")


def test_pages_of_dead_jobs_follow_one_another(stack: Stack, admin: Caller, user: str, gone: str) -> None:
    core_api = stack.speaking_for(user)
    ids = [core_api.ask(stack.request(model=gone)) for _ in range(3)]
    for job_id in ids:
        stack.wait(job_id, State.FAILED)
    seen, after = [], 0
    while after is not None:
        page = admin.get("/v1/admin/dead-letters", params={"user_id": user, "limit": 2, "after": after}).json()
        seen += [one["job_id"] for one in page["jobs"]]
        after = page["next_after"]
    assert sorted(seen) == sorted(ids)


def test_a_dead_job_is_asked_for_once_more_in_its_users_name(stack: Stack, admin: Caller, dead: str, user: str) -> None:
    body = {"job_ids": [dead, "nobody"], "reason": "the model is back"}
    for _ in range(2):
        results = admin.post("/v1/admin/dead-letters/requeue", body).json()["results"]
        assert [(one["status"], one["requeued_as"], one["code"]) for one in results] == [
            ("requeued", f"{dead}-r1", None),
            ("refused", None, "unknown_dead_job"),
        ]
    again = stack.wait(f"{dead}-r1", State.FAILED)
    assert again.user_id == user
    assert stack.balance(user) == 100


def test_dead_jobs_are_dropped_by_filter_and_with_a_reason(admin: Caller, dead: str, user: str) -> None:
    drop = "/v1/admin/dead-letters/drop"
    problem(admin.post(drop, {"user_id": user}), 422, "invalid_request", "reason")
    problem(admin.post(drop, {"reason": "x"}), 422, "invalid_request")
    problem(admin.post(drop, {"reason": "x", "job_ids": [dead], "all": True}), 422, "invalid_request")
    done = admin.post(drop, {"user_id": user, "reason": "nobody misses it"}).json()
    assert ([one["job_id"] for one in done["results"]], done["more"]) == ([dead], False)
    assert admin.get("/v1/admin/dead-letters", params={"user_id": user}).json()["jobs"] == []
    kept = admin.get(f"/v1/admin/dead-letters/{dead}").json()
    assert (kept["standing"], kept["dropped_why"]) == ("dropped", "nobody misses it")
    assert kept["dropped_by"].startswith("user:admin-")


# --- pools and users ---


@pytest.mark.usefixtures("working_afterwards")
def test_a_paused_pool_starts_nothing_until_it_is_let_work_again(stack: Stack, admin: Caller, caller: Caller) -> None:
    problem(
        admin.session.put(f"{admin.url}/v1/admin/pools/default", json={"mode": "paused"}),
        422,
        "reason_missing",
        "reason",
    )
    problem(
        admin.session.put(f"{admin.url}/v1/admin/pools/moon", json={"mode": "working"}), 404, "unknown_pool", "pool"
    )
    said = admin.session.put(f"{admin.url}/v1/admin/pools/default", json={"mode": "paused", "reason": "fans"}).json()
    assert (said["mode"], said["order"]["reason"]) == ("paused", "fans")
    job_id = caller.post("/v1/jobs", stack.request()).json()["id"]
    stack.wait(job_id, State.QUEUED)
    eventually(lambda: queue.standing("default", job_id))
    [depth] = admin.get("/v1/admin/queue").json()["pools"]
    assert (depth["mode"], depth["closed"], depth["waiting"], depth["parked"]) == ("paused", ["operator"], 0, 1)
    assert stack.moves(job_id)[-1] == (State.QUEUED, 1)
    said = admin.session.put(f"{admin.url}/v1/admin/pools", json={"mode": "working"}).json()
    assert [pool["mode"] for pool in said["pools"]] == ["working"]
    stack.wait(job_id, State.AWAITING_REVIEW)
    acts = admin.get("/v1/admin/queue/acts", params={"limit": 2}).json()["acts"]
    assert [(one["act"], one["subject"], one["reason"]) for one in acts] == [
        ("resume", "default", ""),
        ("pause", "default", "fans"),
    ]


@pytest.mark.usefixtures("working_afterwards")
def test_a_draining_pool_takes_no_new_jobs(stack: Stack, admin: Caller, caller: Caller) -> None:
    admin.session.put(f"{admin.url}/v1/admin/pools/default", json={"mode": "draining", "reason": "it moves"})
    answer = caller.post("/v1/jobs", stack.request())
    assert answer.status_code >= 400, answer.text
    assert admin.get("/v1/admin/pools").json()["pools"][0]["order"]["mode"] == "draining"


@pytest.mark.usefixtures("working_afterwards")
def test_a_blocked_user_asks_for_nothing_and_what_waits_is_held(
    stack: Stack, admin: Caller, caller: Caller, user: str
) -> None:
    admin.session.put(f"{admin.url}/v1/admin/pools/default", json={"mode": "paused", "reason": "to look"})
    job_id = caller.post("/v1/jobs", stack.request()).json()["id"]
    eventually(lambda: (found := queue.standing("default", job_id)) and found.where == "parked")
    block = f"{admin.url}/v1/admin/users/{user}/block"
    said = admin.session.put(block, json={"reason": "floods us"}).json()
    assert [(one["user_id"], one["reason"]) for one in said["blocked"]] == [(user, "floods us")]
    problem(caller.post("/v1/jobs", stack.request()), 403, "user_blocked")
    eventually(lambda: (found := queue.standing("default", job_id)) and found.where == "held")
    admin.session.put(f"{admin.url}/v1/admin/pools/default", json={"mode": "working"})
    other = stack.speaking_for("somebody-else")
    stack.grant("somebody-else", 5)
    stack.wait(other.ask(stack.request()), State.AWAITING_REVIEW)
    with postgres.transaction() as tx:
        held = jobs.get(tx, job_id)
    assert held
    assert held.state is State.QUEUED
    assert admin.session.delete(block).json() == {"blocked": []}
    stack.wait(job_id, State.AWAITING_REVIEW)
    caller.post("/v1/jobs", stack.request()).raise_for_status()


# --- how long everything takes ---


def test_the_sla_report_is_told_by_group_and_span(stack: Stack, admin: Caller, caller: Caller) -> None:
    job_id = caller.post("/v1/jobs", stack.request()).json()["id"]
    stack.wait(job_id, State.AWAITING_REVIEW)
    told = admin.get("/v1/admin/sla", params={"by": "tier,pool,day"}).json()
    total = next(line for line in told["lines"] if line["phase"] == "total" and line["tier"] == "CURATOR")
    assert (total["pool"], total["target_s"], total["ok"]) == ("default", 300, True)
    long_ago = {"from": "2020-01-01T00:00:00Z", "to": "2020-01-02T00:00:00Z"}
    assert admin.get("/v1/admin/sla", params=long_ago).json()["lines"] == []
    problem(admin.get("/v1/admin/sla", params={"by": "phase"}), 422, "dimension_unknown", "by")
    problem(admin.get("/v1/admin/sla", params=long_ago | {"to": "2021-01-02T00:00:00Z"}), 422, "range_too_long", "from")
