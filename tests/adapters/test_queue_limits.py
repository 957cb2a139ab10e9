"""Who may be in flight: users, roles, pools and all together; closed pools, blocked users, warm models."""

import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from live import eventually

from functions.adapters import queue
from functions.adapters.queue import Ticket
from functions.config import config

pytestmark = pytest.mark.usefixtures("stack")
Setting = Callable[..., None]
NOW_MS = round(time.time() * 1000)


@pytest.fixture
def pool() -> str:
    """A pool that no runner serves."""
    return f"pool-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Setting]:
    def set_(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        config.cache_clear()

    yield set_
    monkeypatch.undo()
    config.cache_clear()


def put(pool: str, *jobs: str, user: str = "", tier: str = "USER", model: str = "sd15", due_ms: int = 100) -> None:
    """These jobs, due in this order from so many ms after now, of one user or each of its own."""
    for n, job in enumerate(jobs):
        queue.put(
            pool, Ticket(job_id=job, due_ms=NOW_MS + due_ms + n, user_id=user or f"of {job}", tier=tier, model=model)
        )


def claims(pool: str, many: int, **how: str) -> list[str | None]:
    return [queue.claim(pool, f"w-{uuid.uuid4().hex[:6]}", **how) for _ in range(many)]


def test_a_flood_shows_the_autoscaler_two_jobs_and_waits_with_the_rest(pool: str) -> None:
    put(pool, *(f"job-{n}" for n in range(9)), user="flood")
    assert queue.depth(pool) == {"waiting": 2, "leased": 0, "delayed": 0, "parked": 0, "held": 7}
    assert queue.waiting_of_user(pool, "flood") == 9


def test_while_another_waits_he_is_served_before_a_third_job_of_the_flood(pool: str) -> None:
    put(pool, *(f"job-{n}" for n in range(5)), user="flood")
    assert claims(pool, 2) == ["job-0", "job-1"]
    put(pool, "other", due_ms=10_000)
    assert claims(pool, 1) == ["other"]


def test_a_lone_user_may_have_every_gpu(pool: str, setting: Setting) -> None:
    setting(POOLS=f"{pool}*4")
    put(pool, *(f"job-{n}" for n in range(9)), user="alone")
    assert claims(pool, 2) == ["job-0", "job-1"]
    assert queue.depth(pool)["waiting"] == 2, "as many more as there are GPUs free"
    assert claims(pool, 2) == ["job-2", "job-3"]
    assert queue.depth(pool)["waiting"] == 1, "whoever comes free takes the next"


def test_a_slot_that_frees_lets_the_users_next_job_in_at_once(pool: str) -> None:
    put(pool, "a-0", "a-1", "a-2", user="ada")
    put(pool, "other", due_ms=10_000)
    assert queue.claim(pool, "w") == "a-0"
    assert queue.standing(pool, "a-2") == queue.Standing(where="held", ahead=1)
    queue.release(pool, "a-0", "w")
    assert queue.standing(pool, "a-2") == queue.Standing(where="queue", ahead=1, ahead_by_tier={"USER": 1})


def test_a_role_has_no_more_in_flight_than_it_may(pool: str, setting: Setting) -> None:
    setting(MAX_IN_FLIGHT_PER_ROLE="LOW=1")
    put(pool, "low-0", "low-1", tier="LOW")
    put(pool, "user", due_ms=10_000)
    assert claims(pool, 3) == ["low-0", "user", None]
    queue.remove(pool, "low-0")
    assert claims(pool, 1) == ["low-1"]


def test_a_limit_that_is_lifted_lets_everybody_in(pool: str, setting: Setting) -> None:
    setting(MAX_IN_FLIGHT_PER_ROLE="LOW=1")
    put(pool, "low-0", "low-1", "low-2", tier="LOW")
    setting(MAX_IN_FLIGHT_PER_ROLE="")
    queue.reap(pool)
    assert queue.depth(pool)["waiting"] == 3


def test_a_pool_at_its_limit_shows_the_autoscaler_nothing(pool: str, setting: Setting) -> None:
    setting(MAX_IN_FLIGHT_PER_POOL=f"{pool}=1")
    put(pool, "a", "b")
    assert queue.claim(pool, "w") == "a"
    assert (queue.closed(pool), queue.depth(pool)["waiting"], queue.depth(pool)["parked"]) == ({"limit"}, 0, 1)
    assert queue.claim(pool, "another") is None
    queue.release(pool, "a", "w")
    assert queue.claim(pool, "another") == "b"


def test_all_pools_together_have_no_more_in_flight_than_they_may(pool: str, setting: Setting) -> None:
    setting(MAX_IN_FLIGHT="1")
    queue.client().delete(queue.IN_FLIGHT, queue.FULL)
    other = f"{pool}-other"
    put(pool, "a", "b")
    put(other, "c")
    assert queue.claim(pool, "w-1") == "a"
    assert queue.claim(other, "w-2") is None
    assert queue.closed(other) == {"total"}
    queue.release(pool, "a", "w-1")
    assert queue.closed(other) == set()
    assert queue.claim(other, "w-2") == "c"
    assert queue.claim(pool, "w-1") is None
    setting(MAX_IN_FLIGHT="0")
    queue.reap(pool)
    assert queue.claim(pool, "w-1") == "b"


def test_a_closed_pool_opens_when_its_last_reason_is_gone(pool: str) -> None:
    put(pool, "a")
    queue.close(pool, "operator")
    queue.close(pool, "limit")
    put(pool, "b", due_ms=1)
    assert queue.claim(pool, "w") is None
    queue.open_(pool, "limit")
    assert queue.depth(pool)["parked"] == 2
    queue.open_(pool, "operator")
    assert claims(pool, 2) == ["b", "a"]


def test_a_blocked_users_jobs_are_held_and_come_back_in_their_places(pool: str) -> None:
    put(pool, "a-0", "a-1", "a-2", user="ada")
    queue.block(pool, "ada", ["a-0", "a-1", "a-2"])
    put(pool, "a-3", user="ada", due_ms=1)
    assert claims(pool, 1) == [None]
    assert queue.waiting_of_user(pool, "ada") == 4
    queue.unblock(pool, "ada")
    assert claims(pool, 2) == ["a-3", "a-0"]


def test_a_warm_runner_takes_a_later_job_of_its_model(pool: str) -> None:
    put(pool, "cold-0", "cold-1")
    put(pool, "warm", model="sdxl", due_ms=10_000)
    assert claims(pool, 2, model="sdxl") == ["warm", "cold-0"]


def test_a_warm_runner_passes_nobody_who_has_waited_past_the_bound(pool: str, setting: Setting) -> None:
    setting(AFFINITY_BOUND_S="0")
    put(pool, "cold")
    put(pool, "warm", model="sdxl", due_ms=10_000)
    came_ms = time.time() * 1000
    eventually(lambda: time.time() * 1000 > came_ms + 2)  # the bound is passed by the next millisecond
    assert queue.claim(pool, "w", model="sdxl") == "cold"


def test_a_warm_runner_passes_nobody_in_the_admins_lane(pool: str) -> None:
    put(pool, "admin", tier="ADMIN", due_ms=-(10**12))
    put(pool, "warm", model="sdxl")
    assert claims(pool, 2, model="sdxl") == ["admin", "warm"]
