"""The queue: one job in one place, one runner a job, and a lost runner's job back where it stood."""

import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from live import eventually
from redis.crc import key_slot

from functions.adapters import queue
from functions.adapters.queue import Standing, Ticket
from functions.config import config
from functions.domain.errors import Unavailable

pytestmark = pytest.mark.usefixtures("stack")
SOON = timedelta(hours=1)


@pytest.fixture
def pool() -> str:
    """A pool that no runner serves."""
    return f"pool-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def brief_lease(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leases that run out almost at once."""
    monkeypatch.setenv("LEASE_S", "0.05")
    monkeypatch.setenv("HEARTBEAT_S", "0.01")
    config.cache_clear()
    yield
    monkeypatch.undo()
    config.cache_clear()


def a_ticket(
    job: str,
    *,
    due_ms: int,
    run_at: datetime | None = None,
    user: str | None = None,
    tier: str = "USER",
    model: str = "sd15",
) -> Ticket:
    """A job of a user of its own, unless it is said whose."""
    return Ticket(job_id=job, due_ms=due_ms, run_at=run_at, user_id=user or f"of {job}", tier=tier, model=model)


def lapse(pool: str, job: str) -> None:
    """Let the moment that this job waits for, or its lease, be long past."""
    for part in ("leases", "delayed"):
        queue.client().zadd(queue.key(pool, part), {job: 1}, xx=True)


def stands(pool: str) -> dict[str, str]:
    """Where each job of the pool stands; a job in two places is told as both."""
    found: dict[str, str] = {}
    for part, place in (("queue", "waiting"), ("leases", "leased"), ("delayed", "delayed")):
        for job in queue.client().zrange(queue.key(pool, part), 0, -1):
            found[job] = f"{found[job]} and {place}" if job in found else place
    return found


def line(pool: str) -> list[tuple[str, float]]:
    """The waiting jobs, first to be claimed first, each with its due time."""
    return [(str(job), score) for job, score in queue.client().zrange(queue.key(pool, "queue"), 0, -1, withscores=True)]


def test_jobs_are_claimed_in_the_order_they_are_due_and_then_there_are_none(pool: str) -> None:
    for job, due_ms in (("late", 300), ("early", 100), ("middle", 200)):
        assert queue.put(pool, a_ticket(job, due_ms=due_ms))
    assert [queue.claim(pool, "w") for _ in range(4)] == ["early", "middle", "late", None]


def test_a_due_time_is_kept_exactly_on_the_way_in_and_out(pool: str) -> None:
    first, second = 2**53 - 2, 2**53 - 1
    queue.put(pool, a_ticket("b", due_ms=second))
    queue.put(pool, a_ticket("a", due_ms=first))
    assert [queue.claim(pool, "w"), queue.claim(pool, "w")] == ["a", "b"]
    assert queue.release(pool, "b", "w", give_back=True)
    assert line(pool) == [("b", second)]


def test_a_claimed_job_is_leased_to_its_worker_and_no_longer_waits(pool: str) -> None:
    queue.put(pool, a_ticket("a", due_ms=1))
    assert queue.claim(pool, "w-1") == "a"
    assert queue.holds(pool, "a", "w-1")
    assert not queue.holds(pool, "a", "w-2")
    assert queue.claim(pool, "w-2") is None
    assert queue.depth(pool) == {"waiting": 0, "leased": 1, "delayed": 0, "parked": 0, "held": 0}


def test_a_worker_whose_name_has_spaces_is_still_one_worker(pool: str) -> None:
    queue.put(pool, a_ticket("a", due_ms=-5))
    assert queue.claim(pool, "card 0 of rack 7") == "a"
    assert queue.extend(pool, "a", "card 0 of rack 7") is True
    assert queue.release(pool, "a", "card 0 of rack 7", give_back=True)
    assert line(pool) == [("a", -5)]


def test_the_holder_extends_another_is_told_no_and_nobodys_job_is_nobodys(pool: str) -> None:
    queue.put(pool, a_ticket("a", due_ms=1))
    queue.claim(pool, "w-1")
    before = queue.client().zscore(queue.key(pool, "leases"), "a")
    assert queue.extend(pool, "a", "w-1") is True
    assert queue.client().zscore(queue.key(pool, "leases"), "a") >= before
    assert queue.extend(pool, "a", "w-2") is False
    assert queue.extend(pool, "unheard-of", "w-1") is False
    queue.put(pool, a_ticket("waiting", due_ms=1))
    assert queue.extend(pool, "waiting", "w-1") is False


def test_a_lease_lasts_as_long_as_is_configured(pool: str) -> None:
    queue.put(pool, a_ticket("a", due_ms=1))
    queue.claim(pool, "w")
    seconds, microseconds = queue.client().time()
    left_ms = queue.client().zscore(queue.key(pool, "leases"), "a") - (seconds * 1000 + microseconds // 1000)
    assert 0 < left_ms <= config().lease_s * 1000


@pytest.mark.usefixtures("brief_lease")
def test_a_job_whose_lease_ran_out_is_the_next_claimers_and_its_old_holder_is_told_so(pool: str) -> None:
    queue.put(pool, a_ticket("a", due_ms=100))
    assert queue.claim(pool, "w-1") == "a"
    assert eventually(lambda: queue.claim(pool, "w-2")) == "a"
    assert queue.extend(pool, "a", "w-1") is False


def test_reap_brings_back_what_lapsed_with_the_due_time_it_had(pool: str) -> None:
    for n in range(3):
        queue.put(pool, a_ticket(f"job-{n}", due_ms=100 + n))
    assert queue.claim(pool, "w-1") == "job-0"
    assert queue.reap(pool) == 0
    lapse(pool, "job-0")
    assert queue.reap(pool) == 1
    assert line(pool) == [("job-0", 100), ("job-1", 101), ("job-2", 102)]
    assert queue.extend(pool, "job-0", "w-1") is False
    assert not queue.release(pool, "job-0", "w-1")


def test_a_crowd_that_lapsed_together_comes_back_sixteen_at_a_time_so_that_no_claim_pays_for_all(pool: str) -> None:
    for n in range(40):
        queue.hold(pool, a_ticket(f"job-{n}", due_ms=n), "w")
    for n in range(40):
        lapse(pool, f"job-{n}")
    assert [queue.reap(pool) for _ in range(4)] == [16, 16, 8, 0]


def test_a_retry_waits_out_its_time_and_then_stands_where_it_stood(pool: str) -> None:
    queue.put(pool, a_ticket("a", due_ms=100))
    queue.put(pool, a_ticket("b", due_ms=200))
    queue.claim(pool, "w")
    queue.retry(pool, a_ticket("a", due_ms=100, run_at=datetime.now(UTC) + SOON))
    assert stands(pool) == {"a": "delayed", "b": "waiting"}
    lapse(pool, "a")
    assert queue.claim(pool, "w") == "a"


def test_a_worker_that_lost_its_job_to_a_retry_can_neither_extend_nor_release_it(pool: str) -> None:
    queue.put(pool, a_ticket("a", due_ms=100))
    queue.claim(pool, "w")
    queue.retry(pool, a_ticket("a", due_ms=100, run_at=datetime.now(UTC) + SOON))
    assert queue.extend(pool, "a", "w") is False
    assert not queue.release(pool, "a", "w", give_back=True)
    assert stands(pool) == {"a": "delayed"}


@pytest.mark.parametrize("where", ["waiting", "leased", "delayed"])
def test_a_second_telling_changes_nothing_wherever_the_job_stands(pool: str, where: str) -> None:
    run_at = datetime.now(UTC) + SOON if where == "delayed" else None
    assert queue.put(pool, a_ticket("a", due_ms=100, run_at=run_at))
    if where == "leased":
        queue.claim(pool, "w")
    assert not queue.put(pool, a_ticket("a", due_ms=1))
    assert not queue.put(pool, a_ticket("a", due_ms=1, run_at=datetime.now(UTC) + SOON))
    assert not queue.hold(pool, a_ticket("a", due_ms=1), "another")
    assert stands(pool) == {"a": where}
    if where == "waiting":
        assert line(pool) == [("a", 100)]


def test_a_job_given_back_waits_at_the_place_it_had_and_one_released_waits_no_more(pool: str) -> None:
    queue.put(pool, a_ticket("a", due_ms=100))
    queue.put(pool, a_ticket("b", due_ms=200))
    queue.claim(pool, "w")
    assert not queue.release(pool, "a", "another", give_back=True)
    assert queue.release(pool, "a", "w", give_back=True)
    assert line(pool) == [("a", 100), ("b", 200)]
    queue.claim(pool, "w")
    assert queue.release(pool, "a", "w")
    assert stands(pool) == {"b": "waiting"}


def test_many_jobs_put_at_once_stand_where_they_would_one_by_one(pool: str) -> None:
    tickets = [a_ticket(f"job-{n:03}", due_ms=n, user=f"u-{n % 40}") for n in range(130)]
    later = a_ticket("later", due_ms=1, run_at=datetime.now(UTC) + SOON)
    assert queue.put(pool, tickets[7])
    assert queue.put_all(pool, [*tickets, later]) == 130
    assert queue.put_all(pool, tickets) == 0
    assert queue.put_all(pool, []) == 0
    assert queue.depth(pool) == {"waiting": 80, "leased": 0, "delayed": 1, "parked": 0, "held": 50}


def test_the_bell_rings_when_a_job_comes_into_an_empty_line_and_is_heard_once(pool: str) -> None:
    assert not queue.await_bell(pool, 0.01)
    queue.put(pool, a_ticket("a", due_ms=1))
    queue.put(pool, a_ticket("b", due_ms=2))
    assert queue.client().llen(queue.key(pool, "bell")) == 1
    assert 0 < queue.client().ttl(queue.key(pool, "bell")) <= 5
    assert queue.await_bell(pool, 0.01)
    assert not queue.await_bell(pool, 0.01)


def test_who_heard_the_bell_and_leaves_jobs_behind_rings_for_the_next(pool: str) -> None:
    for n in range(3):
        queue.put(pool, a_ticket(f"job-{n}", due_ms=n))
    assert queue.await_bell(pool, 0.01)
    assert queue.claim(pool, "w-1", woken=True) == "job-0"
    assert queue.await_bell(pool, 0.01)
    assert queue.claim(pool, "w-2", woken=True, model="sd15") == "job-1"
    assert queue.await_bell(pool, 0.01)
    assert queue.claim(pool, "w-3", woken=True) == "job-2"
    assert not queue.await_bell(pool, 0.01), "nothing is left to be told of"


def test_a_closed_pool_rings_when_it_is_opened_and_not_before(pool: str) -> None:
    queue.close(pool, "operator")
    queue.put(pool, a_ticket("a", due_ms=1))
    assert not queue.await_bell(pool, 0.01)
    queue.open_(pool, "operator")
    assert queue.await_bell(pool, 0.01)


def test_a_job_that_is_given_back_rings(pool: str) -> None:
    queue.put(pool, a_ticket("a", due_ms=1))
    assert queue.await_bell(pool, 0.01)
    assert queue.claim(pool, "w") == "a"
    queue.release(pool, "a", "w", give_back=True)
    assert queue.await_bell(pool, 0.01)


@pytest.mark.parametrize("where", ["waiting", "leased", "delayed", "nowhere"])
def test_a_job_that_is_removed_stands_nowhere(pool: str, where: str) -> None:
    if where != "nowhere":
        queue.put(pool, a_ticket("a", due_ms=1, run_at=datetime.now(UTC) + SOON if where == "delayed" else None))
    if where == "leased":
        queue.claim(pool, "w")
    queue.remove(pool, "a")
    assert stands(pool) == {}
    assert queue.client().hvals(queue.key(pool, "tiers")) in ([], ["0"])
    left = set(queue.client().scan_iter(queue.key(pool, "*")))
    assert left <= {queue.key(pool, "tiers"), queue.key(pool, "bell")}
    assert not queue.extend(pool, "a", "w")


def test_a_lease_that_redis_forgot_is_given_back_to_the_worker_that_postgres_names(pool: str) -> None:
    assert queue.hold(pool, a_ticket("a", due_ms=100), "w-1")
    assert queue.extend(pool, "a", "w-1") is True
    lapse(pool, "a")
    queue.reap(pool)
    assert line(pool) == [("a", 100)]


def test_jobs_that_stand_nowhere_are_found_in_one_look(pool: str) -> None:
    queue.put(pool, a_ticket("waiting", due_ms=2))
    queue.put(pool, a_ticket("leased", due_ms=1))
    queue.put(pool, a_ticket("delayed", due_ms=1, run_at=datetime.now(UTC) + SOON))
    queue.claim(pool, "w")
    assert queue.unknown(pool, ["waiting", "leased", "delayed", "lost", "never-was"]) == {"lost", "never-was"}
    assert queue.unknown(pool, []) == set()


def test_a_jobs_standing_is_where_it_is_and_who_runs_before_it(pool: str) -> None:
    for n, tier in enumerate(("ADMIN", "USER", "USER", "LOW")):
        queue.put(pool, a_ticket(f"job-{n}", due_ms=n, tier=tier))
    queue.put(pool, a_ticket("later", due_ms=1, run_at=datetime.now(UTC) + SOON))
    assert queue.standing(pool, "job-0") == Standing(where="queue", ahead=0, ahead_by_tier={})
    assert queue.standing(pool, "job-3") == Standing(where="queue", ahead=3, ahead_by_tier={"ADMIN": 1, "USER": 2})
    assert queue.standing(pool, "later") == Standing(where="delayed")
    assert queue.standing(pool, "never-was") is None
    queue.claim(pool, "w")
    assert queue.standing(pool, "job-0") == Standing(where="leased")
    queue.close(pool, "operator")
    assert queue.standing(pool, "job-2") == Standing(where="parked", ahead=1, ahead_by_tier={"USER": 1})


def test_beyond_the_first_few_hundred_nobody_counts_who_is_ahead_by_tier(pool: str) -> None:
    for n in range(queue.LOOK + 2):
        queue.put(pool, a_ticket(f"job-{n:03}", due_ms=n))
    assert queue.standing(pool, f"job-{queue.LOOK}") == Standing(
        where="queue", ahead=queue.LOOK, ahead_by_tier={"USER": queue.LOOK}
    )
    assert queue.standing(pool, f"job-{queue.LOOK + 1}") == Standing(where="queue", ahead=queue.LOOK + 1)


def test_a_held_job_is_behind_its_users_others_and_what_is_due_before_it(pool: str) -> None:
    for n in range(4):
        queue.put(pool, a_ticket(f"mine-{n}", due_ms=10 + n, user="me"))
    queue.put(pool, a_ticket("before", due_ms=1))
    queue.put(pool, a_ticket("after", due_ms=99))
    assert queue.standing(pool, "mine-3") == Standing(where="held", ahead=4)


def test_pools_do_not_see_each_others_jobs(pool: str) -> None:
    queue.put(pool, a_ticket("a", due_ms=1))
    assert queue.claim(f"{pool}-other", "w") is None
    assert queue.unknown(f"{pool}-other", ["a"]) == {"a"}


def test_the_keys_of_a_pool_share_a_cluster_slot_and_keda_counts_its_queue(pool: str) -> None:
    assert queue.key("v24", "queue") == "generator:{v24}:queue"
    for n in range(4):
        queue.put(pool, a_ticket(f"job-{n}", due_ms=n, user="u", tier="LOW"))
    assert len({key_slot(key.encode()) for key in queue.client().scan_iter(queue.key(pool, "*"))}) == 1


def test_many_runners_claiming_at_once_never_get_one_job_twice(pool: str) -> None:
    for n in range(120):
        queue.put(pool, a_ticket(f"job-{n}", due_ms=n))
    claimed: Counter[str] = Counter()
    lock = threading.Lock()

    def run(worker: str) -> None:
        while job := queue.claim(pool, worker):
            with lock:
                claimed[job] += 1
            assert queue.holds(pool, job, worker)

    threads = [threading.Thread(target=run, args=(f"w-{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == 120
    assert set(claimed.values()) == {1}


def test_progress_keeps_the_latest_words_and_not_every_one() -> None:
    job = f"job-{uuid.uuid4().hex}"
    assert queue.progress(job) is None
    for step in range(600):
        queue.tell_progress(job, {"phase": "painting", "step": step})
    assert queue.progress(job) == {"phase": "painting", "step": 599}
    assert queue.client().xlen(queue.progress_key(job)) < 600
    assert 0 < queue.client().ttl(queue.progress_key(job)) <= queue.PROGRESS_KEPT_S


def test_a_watcher_of_many_jobs_learns_all_in_one_look(pool: str) -> None:
    for n in range(2):
        queue.put(pool, a_ticket(f"job-{n}", due_ms=n))
    running = f"job-{uuid.uuid4().hex}"
    queue.tell_progress(running, {"step": 1})
    assert queue.glance({"job-0": pool, "job-1": pool, "lost": pool}, [running, "silent"]) == (
        {"job-0": 0, "job-1": 1},
        {running: {"step": 1}},
    )
    assert queue.glance({}, []) == ({}, {})


def test_a_dead_letter_names_the_job_and_carries_its_record() -> None:
    job = f"job-{uuid.uuid4().hex}"
    queue.bury(job, {"errors": ["1: comfyui_lost"]})
    [(_, letter)] = queue.client().xrevrange(queue.DEAD, count=1)
    assert letter == {"job_id": job, "record": '{"errors": ["1: comfyui_lost"]}'}


def test_a_redis_that_is_not_there_is_said_to_be_unavailable(pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    for cached in (config, queue.client, queue.script):
        cached.cache_clear()
    try:
        for ask in (lambda: queue.claim(pool, "w"), lambda: queue.depth(pool), lambda: queue.progress("a")):
            with pytest.raises(Unavailable, match="Redis"):
                ask()
    finally:
        monkeypatch.undo()
        for cached in (config, queue.client, queue.script):
            cached.cache_clear()
