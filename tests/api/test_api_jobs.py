"""Jobs over REST: asked for, asked for again, looked at, waited for and called off."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import requests
from caller import Caller, problem
from live import Stack

from functions.domain.job import State


def test_a_request_is_taken_with_202_and_becomes_pictures(stack: Stack, caller: Caller, user: str) -> None:
    answer = caller.post("/v1/jobs", stack.request(seed="18446744073709551615", images=2))
    taken = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/jobs/{taken['id']}")
    assert (taken["state"], taken["seed"]) == ("submitted", "18446744073709551615")

    stack.wait(taken["id"], State.AWAITING_REVIEW)
    story = caller.get(f"/v1/jobs/{taken['id']}").json()
    assert [move["to_state"] for move in story["history"]] == [
        *("submitted", "debited", "queued", "dispatching", "in_progress", "awaiting_review"),
    ]
    assert (story["seed"], story["attempt"], story["credits"]) == ("18446744073709551615", 1, taken["credits"])
    assert story["parameters"] | {"width": 64, "height": 64, "steps": 4, "images": 2} == story["parameters"]
    assert [entry["reason"] for entry in story["transactions"]] == ["debit"]
    assert len(story["artifacts"]) == 2
    assert stack.balance(user) == 100 - taken["credits"]


def test_the_same_request_under_its_key_gets_the_first_answer_and_one_job(
    stack: Stack, caller: Caller, user: str
) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = caller.post("/v1/jobs", stack.request(), headers=key)
    stack.wait(first.json()["id"], State.AWAITING_REVIEW)
    again = caller.post("/v1/jobs", stack.request(), headers=key)
    assert (again.status_code, again.json()) == (202, first.json())
    assert len(caller.get("/v1/jobs").json()["jobs"]) == 1
    assert stack.balance(user) == 100 - first.json()["credits"]


def test_a_request_sent_eight_times_at_once_under_one_key_is_one_job(stack: Stack, caller: Caller) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: caller.post("/v1/jobs", stack.request(), headers=key), range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.text for answer in answers}) == 1


def test_another_request_under_a_used_key_is_refused(stack: Stack, caller: Caller) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = caller.post("/v1/jobs", stack.request(), headers=key).json()
    problem(caller.post("/v1/jobs", stack.request(steps=5), headers=key), 422, "idempotency_key_reused")
    assert caller.post("/v1/jobs", stack.request(), headers=key).json() == first


def test_one_key_of_two_users_is_two_jobs(stack: Stack, caller: Caller, stranger: Caller, user: str) -> None:
    stack.grant(f"{user}-stranger", 10)
    key = {"Idempotency-Key": "tuesday"}
    ids = {each.post("/v1/jobs", stack.request(), headers=key).json()["id"] for each in (caller, stranger)}
    assert len(ids) == 2


def test_a_refusal_is_repeated_under_its_key(stack: Stack, stranger: Caller) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = stranger.post("/v1/jobs", stack.request(), headers=key)
    problem(first, 402, "insufficient_credits")
    again = stranger.post("/v1/jobs", stack.request(), headers=key)
    assert (again.status_code, again.json()) == (402, first.json())


def test_requests_that_cannot_run_are_refused_by_field(stack: Stack, caller: Caller) -> None:
    problem(caller.post("/v1/jobs", stack.request(model="nowhere")), 422, "unknown_model", "model")
    problem(caller.post("/v1/jobs", stack.request(width=65)), 422, "parameter_out_of_range", "width")
    problem(caller.post("/v1/jobs", stack.request(seed="12e3")), 422, "seed_invalid", "seed")
    problem(caller.post("/v1/jobs", stack.request(seed=2**60)), 422, "seed_inexact", "seed")
    problem(caller.post("/v1/jobs", stack.request(tags=["moon"])), 422, "no_such_pool", "tags")
    problem(caller.post("/v1/jobs", stack.request(steps="4")), 422, "invalid_request", "steps")
    assert caller.get("/v1/jobs").json() == {"jobs": [], "next_cursor": None}


def test_a_role_that_may_not_ask_is_refused_with_403(
    stack: Stack, calling_as: Callable[..., Caller], user: str
) -> None:
    problem(calling_as(user, "USER").post("/v1/jobs", stack.request()), 403, "role_not_allowed")


def test_a_job_is_its_owner_s_and_an_admin_s_and_nobody_else_s(
    stack: Stack, caller: Caller, stranger: Caller, calling_as: Callable[..., Caller]
) -> None:
    job_id = caller.post("/v1/jobs", stack.request()).json()["id"]
    problem(stranger.get(f"/v1/jobs/{job_id}"), 404, "unknown_job", "job_id")
    problem(stranger.get(f"/v1/jobs/{job_id}/place"), 404, "unknown_job", "job_id")
    problem(stranger.delete(f"/v1/jobs/{job_id}"), 404, "unknown_job", "job_id")
    assert calling_as("root", "ADMIN").get(f"/v1/jobs/{job_id}").json()["id"] == job_id


def test_pages_follow_one_another_without_gap_or_repeat(stack: Stack, caller: Caller) -> None:
    ids = [caller.post("/v1/jobs", stack.request()).json()["id"] for _ in range(5)]
    seen, cursor = [], None
    while True:
        page = caller.get("/v1/jobs", params={"limit": 2, "cursor": cursor}).json()
        seen += [job["id"] for job in page["jobs"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ids[::-1]


def test_a_listing_can_be_narrowed_to_a_state(stack: Stack, caller: Caller) -> None:
    job_id = caller.post("/v1/jobs", stack.request()).json()["id"]
    stack.wait(job_id, State.AWAITING_REVIEW)
    found = caller.get("/v1/jobs", params={"state": "awaiting_review"}).json()["jobs"]
    assert [job["id"] for job in found] == [job_id]
    assert caller.get("/v1/jobs", params={"state": "failed"}).json()["jobs"] == []


def test_wrong_listing_parameters_are_refused_by_name(caller: Caller) -> None:
    problem(caller.get("/v1/jobs?limit=0"), 422, "invalid_request", "limit")
    problem(caller.get("/v1/jobs?state=lost"), 422, "invalid_request", "state")
    problem(caller.get("/v1/jobs?cursor=abc"), 422, "cursor_invalid", "cursor")
    problem(caller.get("/v1/jobs?cursor=WzEsMl0"), 422, "cursor_invalid", "cursor")


def test_a_waiting_job_is_called_off_with_its_credits_back_once(stack: Stack, caller: Caller, user: str) -> None:
    stack.behave(step_ms=300)
    ids = [caller.post("/v1/jobs", stack.request(steps=20)).json()["id"] for _ in range(4)]
    assert caller.delete(f"/v1/jobs/{ids[-1]}").json()["state"] == "cancelled"
    assert caller.delete(f"/v1/jobs/{ids[-1]}").status_code == 200
    stack.wait(ids[-1], State.CANCELLED)
    story = caller.get(f"/v1/jobs/{ids[-1]}").json()
    assert sum(entry["change"] for entry in story["transactions"]) == 0
    for job_id in ids[:-1]:
        caller.delete(f"/v1/jobs/{job_id}")


def test_a_job_with_pictures_is_too_late_to_call_off(stack: Stack, caller: Caller) -> None:
    job_id = caller.post("/v1/jobs", stack.request()).json()["id"]
    stack.wait(job_id, State.AWAITING_REVIEW)
    problem(caller.delete(f"/v1/jobs/{job_id}"), 409, "too_late")


def test_a_waiting_job_knows_its_place_and_a_running_one_how_far_it_is(stack: Stack, caller: Caller) -> None:
    stack.behave(step_ms=200)
    ids = [caller.post("/v1/jobs", stack.request(steps=30)).json()["id"] for _ in range(4)]
    stack.wait(ids[0], State.IN_PROGRESS)
    place = caller.get(f"/v1/jobs/{ids[3]}/place").json()
    assert sum(term["value_ms"] for term in place["terms"]) == place["due_ms"]
    assert [term["name"] for term in place["terms"]] == ["submitted", "own_work", "role", "boost"]
    assert place["pool"] == "default" and place["words"]
    shown = {job["id"]: job for job in caller.get("/v1/jobs").json()["jobs"]}
    for job in shown.values():
        if job["state"] == "queued" and job["ahead"] is not None:
            assert job["progress"] is None and 0 <= job["ahead"] <= 3
        if job["progress"]:
            assert job["state"] in ("dispatching", "in_progress") and 0 <= job["progress"]["percent"] <= 100
    for job_id in ids:
        caller.delete(f"/v1/jobs/{job_id}")


def test_a_failed_job_says_why_and_what_helps(stack: Stack, caller: Caller, user: str, gone: str) -> None:
    job_id = caller.post("/v1/jobs", stack.request(model=gone)).json()["id"]
    stack.wait(job_id, State.FAILED)
    story = caller.get(f"/v1/jobs/{job_id}").json()
    assert (story["cause"], story["attempt"]) == ("object_missing", 1)
    assert "returned" in story["remedy"] and "another model" in story["remedy"]
    assert [entry["reason"] for entry in story["transactions"]] == ["debit", "refund"]
    assert stack.balance(user) == 100


def test_jobs_are_shown_and_taken_while_redis_is_away(
    stack: Stack, caller: Caller, without_redis: str, user: str
) -> None:
    away = Caller(without_redis, stack.sign(user))
    taken = away.post("/v1/jobs", stack.request())
    assert taken.status_code == 202
    assert away.get(f"/v1/jobs/{taken.json()['id']}").status_code == 200
    assert len(away.get("/v1/jobs").json()["jobs"]) == 1
    stack.wait(taken.json()["id"], State.AWAITING_REVIEW)


def test_no_prompt_gets_into_the_log(stack: Stack, caller: Caller) -> None:
    job_id = caller.post("/v1/jobs", stack.request(prompt="a very private heron")).json()["id"]
    caller.post("/v1/jobs", stack.request(prompt="a very private heron", width=65))
    caller.get(f"/v1/jobs/{job_id}")
    log = stack.house.state.log("api").read_text()
    assert job_id in log and "private heron" not in log


def test_a_content_type_may_carry_parameters(stack: Stack, caller: Caller) -> None:
    answer = requests.post(
        f"{caller.url}/v1/quotes",
        json=stack.request(),
        headers={"Authorization": caller.session.headers["Authorization"], "Content-Type": "application/json; v=1"},
        timeout=5,
    )
    assert answer.status_code == 200
