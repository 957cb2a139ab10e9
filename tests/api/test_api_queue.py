"""The queue as its users see it: places, waits, and what becomes of a request when too much waits."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from caller import Caller, problem
from conftest import another_api
from live import Stack, eventually

from functions.adapters import controls, postgres, queue
from functions.domain.job import State
from functions.stack.house import House

POOL = "api-tests"  # no runner serves it, so what waits there stays


@pytest.fixture(scope="session")
def unserved(house: House) -> str:
    """The address of an api function that knows a pool no runner serves, and lets curators be pressed in it."""
    return another_api(
        house,
        "api-under-pressure",
        POOLS=f"default,{POOL}:24*2",
        SATURATED_DEPTH="4",
        SATURATED_WAIT_S="0",
        SATURATED_ROLES="CURATOR",
        MAX_WAITING_PER_USER="3",
    )


class Somebody(Caller):
    """A curator with credits, whose jobs go to the pool that nobody serves."""

    def __init__(self, stack: Stack, url: str) -> None:
        self.user = f"user-{uuid.uuid4().hex[:8]}"
        stack.grant(self.user, 1000)
        super().__init__(url, stack.sign(self.user))
        self.stack = stack

    def ask(self, *, key: str = "", **fields: Any) -> Any:
        headers = {"Idempotency-Key": key} if key else {}
        return self.post("/v1/jobs", self.stack.request(tags=[POOL], **fields), headers=headers)

    def waiting(self, **fields: Any) -> str:
        """The id of a job that Redis knows."""
        job_id = str(self.ask(**fields).json()["id"])
        eventually(lambda: queue.standing(POOL, job_id))
        return job_id

    def place(self, job_id: str) -> Any:
        return self.get(f"/v1/jobs/{job_id}/place").json()


@pytest.fixture
def people(stack: Stack, unserved: str) -> Iterator[Any]:
    """As many curators as a test wants; afterwards nobody waits."""
    made: list[Somebody] = []

    def another() -> Somebody:
        made.append(Somebody(stack, unserved))
        return made[-1]

    yield another
    for one in made:
        for job in one.get("/v1/jobs", params={"limit": 100}).json()["jobs"]:
            one.delete(f"/v1/jobs/{job['id']}")
    eventually(lambda: sum(queue.depth(POOL).values()) == 0)


def mine(caller: Caller, pool: str = POOL) -> Any:
    [found] = [one for one in caller.get("/v1/queue").json()["pools"] if one["name"] == pool]
    return found


def test_everyone_can_see_how_full_the_pools_are(people: Any) -> None:
    one = people()
    before = mine(one)
    assert (before["mode"], before["max_workers"], before["vram_gib"], before["tags"]) == ("open", 2, 24, [POOL])
    assert before["depth"] == {"waiting": 0, "held": 0, "parked": 0, "delayed": 0, "running": 0}
    assert before["words"].startswith(f"No job waits in pool {POOL}, 0 of at most 2 GPUs are at work.")
    for _ in range(3):
        one.waiting()
    after = mine(one)
    assert (after["depth"]["waiting"], after["depth"]["held"]) == (2, 1)
    assert after["wait"]["p50_s"] >= before["wait"]["p50_s"]
    assert after["words"].startswith("3 jobs wait")


def test_a_quote_and_a_job_tell_the_wait_and_the_job_keeps_what_it_was_told(people: Any) -> None:
    one = people()
    quote = one.post("/v1/quotes", one.stack.request(tags=[POOL])).json()
    assert 0 <= quote["wait"]["p50_s"] <= quote["wait"]["p90_s"]
    assert 0 < quote["render"]["p50_s"] <= quote["render"]["p90_s"]
    assert (quote["degraded"], quote["refused_now"]) == ({}, None)
    key = uuid.uuid4().hex
    first = one.ask(key=key)
    assert first.json()["estimated_wait"] == quote["wait"]
    one.waiting()
    assert one.ask(key=key).json() == first.json()
    assert one.get(f"/v1/jobs/{first.json()['id']}").json()["estimated_wait"] == quote["wait"]


def test_a_place_tells_its_terms_who_is_ahead_and_why_a_job_is_held(people: Any) -> None:
    one, other = people(), people()
    first, second, third = (one.waiting(width=1024, height=1024, steps=28) for _ in range(3))
    places = [one.place(job_id) for job_id in (first, second, third)]
    assert [place["where"] for place in places] == ["queue", "queue", "held"]
    assert [place["ahead"] for place in places] == [0, 1, 2]
    assert places[1]["ahead_by_tier"] == {"CURATOR": 1}
    for place in places:
        assert sum(term["value_ms"] for term in place["terms"]) == place["due_ms"]
        assert [term["name"] for term in place["terms"]] == ["submitted", "own_work", "role", "boost"]
        assert place["wait"]["p50_s"] <= place["wait"]["p90_s"]
    own = [place["terms"][1] for place in places]
    assert own[0]["words"] == "behind no work of your own"
    assert own[2]["value_ms"] > 0
    assert "your own earlier work" in own[2]["words"]
    assert places[2]["held_because"] == f"While others wait, pool {POOL} runs at most 2 of one user at once."
    theirs = other.place(other.waiting())
    assert theirs["where"] == "queue"
    assert places[0]["held_because"] is theirs["held_because"] is None


def test_a_closed_pool_gives_its_reason_in_place_of_a_number(people: Any) -> None:
    one = people()
    job_id = one.waiting()
    with postgres.transaction() as tx:
        controls.pause(tx, POOL, by="a test", reason="new drivers")
    try:
        queue.close(POOL, controls.OPERATOR)
        place = one.place(job_id)
        assert (place["where"], place["wait"]["p50_s"]) == ("parked", None)
        assert place["held_because"] == f"An operator has closed pool {POOL}: new drivers."
        shown = mine(one)
        assert (shown["mode"], shown["wait"]["p90_s"], shown["depth"]["parked"]) == ("paused", None, 1)
        assert "paused (new drivers)" in shown["words"]
        told = one.ask().json()["estimated_wait"]
        assert (told["p50_s"], told["p90_s"]) == (None, None)
    finally:
        with postgres.transaction() as tx:
            controls.resume(tx, POOL)


def test_a_user_who_has_enough_waiting_is_told_when_to_come_again(people: Any) -> None:
    one = people()
    for _ in range(3):
        one.waiting()
    refused = one.ask()
    assert "3 jobs of yours wait" in problem(refused, 429, "user_waiting_limit")["detail"]
    assert int(refused.headers["retry-after"]) >= 5


def test_a_saturated_pool_refuses_for_now_gives_less_to_who_allows_it_and_recovers(stack: Stack, people: Any) -> None:
    crowd = [people() for _ in range(5)]
    waiting = [(one, one.waiting()) for one in crowd]
    late, key = people(), uuid.uuid4().hex
    refused = late.ask(key=key)
    problem(refused, 503, "queue_saturated")
    assert int(refused.headers["retry-after"]) >= 5
    assert mine(late)["saturated"] is True
    quote = late.post("/v1/quotes", stack.request(tags=[POOL], images=4)).json()
    assert quote["refused_now"]["code"] == "queue_saturated"

    whole = quote["credits"]
    less = late.ask(images=4, may_degrade=True)
    assert less.status_code == 202
    assert less.json()["degraded"] == {"images": {"asked": 4, "given": 2}}
    assert less.json()["credits"] < whole
    story = late.get(f"/v1/jobs/{less.json()['id']}").json()
    assert (story["images"], story["parameters"]["images"], story["degraded"]) == (2, 2, less.json()["degraded"])

    for one, job_id in waiting:
        one.delete(f"/v1/jobs/{job_id}")
    taken = late.ask(key=key)  # the same request, under the same key
    assert taken.status_code == 202
    stack.wait(taken.json()["id"], State.QUEUED)


def test_who_is_blocked_is_refused(people: Any) -> None:
    one = people()
    with postgres.transaction() as tx:
        controls.block(tx, one.user, by="a test", reason="spam")
    try:
        problem(one.ask(), 403, "user_blocked")
        quote = one.post("/v1/quotes", one.stack.request()).json()
        assert quote["refused_now"]["code"] == "user_blocked"
    finally:
        with postgres.transaction() as tx:
            controls.unblock(tx, one.user)


def test_the_queue_is_shown_and_jobs_are_taken_without_redis(stack: Stack, without_redis: str, user: str) -> None:
    away = Caller(without_redis, stack.sign(user))
    shown = mine(away, "default")
    assert (shown["depth"], shown["saturated"], shown["wait"]["p50_s"]) == (None, None, None)
    assert "cannot be seen" in shown["words"]
    taken = away.post("/v1/jobs", stack.request()).json()
    assert taken["estimated_wait"]["p50_s"] is None
    place = away.get(f"/v1/jobs/{taken['id']}/place").json()
    assert place["where"] is None
    assert place["words"]
    stack.wait(taken["id"], State.AWAITING_REVIEW)


def test_pools_that_need_more_than_there_is_are_named(people: Any) -> None:
    one = people()
    answer = one.post("/v1/jobs", one.stack.request(tags=["video"]))
    assert "no pool offers 'video'" in problem(answer, 422, "no_such_pool", "tags")["detail"]


def test_what_was_estimated_is_compared_with_what_came(stack: Stack, user: str) -> None:
    from functions.adapters import estimates

    stack.wait(stack.speaking_for(user).ask(stack.request()), State.AWAITING_REVIEW)

    def compared() -> bool:
        with postgres.transaction() as tx:
            covered, error_s = estimates.accuracy(tx, ["default"])
        return bool(covered and error_s)

    eventually(compared)
