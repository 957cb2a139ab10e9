"""The queue: one job in one place, one runner a job, and a lost runner's job back where it stood."""

import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from live import eventually
from redis.crc import key_slot

from functions.adapters import queue
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


def lapse(pool: str, job: str) -> None:
    """Let the moment that this job waits for, or its lease, be long past."""
    for key in queue.keys(pool)[1:3]:
        queue.client().zadd(key, {job: 1}, xx=True)


def stands(pool: str) -> dict[str, str]:
    """Where each job of the pool stands; a job in two places is told as both."""
    found: dict[str, str] = {}
    for key, place in zip(queue.keys(pool)[:3], ("waiting", "leased", "delayed"), strict=True):
        for job in queue.client().zrange(key, 0, -1):
            found[job] = f"{found[job]} and {place}" if job in found else place
    return found


def line(pool: str) -> list[tuple[str, float]]:
    """The waiting jobs, first to be claimed first, each with its due time."""
    return [(str(job), score) for job, score in queue.client().zrange(queue.keys(pool)[0], 0, -1, withscores=True)]


def test_jobs_are_claimed_in_the_order_they_are_due_and_then_there_are_none(pool: str) -> None:
    for job, due_ms in (("late", 300), ("early", 100), ("middle", 200)):
        assert queue.put(pool, job, due_ms=due_ms)
    assert [queue.claim(pool, "w") for _ in range(4)] == ["early", "middle", "late", None]


def test_a_due_time_is_kept_exactly_on_the_way_in_and_out(pool: str) -> None:
    first, second = 2**53 - 2, 2**53 - 1
    queue.put(pool, "b", due_ms=second)
    queue.put(pool, "a", due_ms=first)
    assert [queue.claim(pool, "w"), queue.claim(pool, "w")] == ["a", "b"]
    assert queue.release(pool, "b", "w", give_back=True)
    assert line(pool) == [("b", second)]


def test_a_claimed_job_is_leased_to_its_worker_and_no_longer_waits(pool: str) -> None:
    queue.put(pool, "a", due_ms=1)
    assert queue.claim(pool, "w-1") == "a"
    assert queue.holds(pool, "a", "w-1")
    assert not queue.holds(pool, "a", "w-2")
    assert queue.claim(pool, "w-2") is None
    assert queue.depth(pool) == {"waiting": 0, "leased": 1, "delayed": 0}


def test_a_worker_whose_name_has_spaces_is_still_one_worker(pool: str) -> None:
    queue.put(pool, "a", due_ms=-5)
    assert queue.claim(pool, "card 0 of rack 7") == "a"
    assert queue.extend(pool, "a", "card 0 of rack 7") is True
    assert queue.release(pool, "a", "card 0 of rack 7", give_back=True)
    assert line(pool) == [("a", -5)]


def test_the_holder_extends_another_is_told_no_and_nobodys_job_is_nobodys(pool: str) -> None:
    queue.put(pool, "a", due_ms=1)
    queue.claim(pool, "w-1")
    before = queue.client().zscore(queue.keys(pool)[1], "a")
    assert queue.extend(pool, "a", "w-1") is True
    assert queue.client().zscore(queue.keys(pool)[1], "a") >= before
    assert queue.extend(pool, "a", "w-2") is False
    assert queue.extend(pool, "unheard-of", "w-1") is None
    queue.put(pool, "waiting", due_ms=1)
    assert queue.extend(pool, "waiting", "w-1") is False


def test_a_lease_lasts_as_long_as_is_configured(pool: str) -> None:
    queue.put(pool, "a", due_ms=1)
    queue.claim(pool, "w")
    seconds, microseconds = queue.client().time()
    left_ms = queue.client().zscore(queue.keys(pool)[1], "a") - (seconds * 1000 + microseconds // 1000)
    assert 0 < left_ms <= config().lease_s * 1000


@pytest.mark.usefixtures("brief_lease")
def test_a_job_whose_lease_ran_out_is_the_next_claimers_and_its_old_holder_is_told_so(pool: str) -> None:
    queue.put(pool, "a", due_ms=100)
    assert queue.claim(pool, "w-1") == "a"
    assert eventually(lambda: queue.claim(pool, "w-2")) == "a"
    assert queue.extend(pool, "a", "w-1") is False


def test_reap_brings_back_what_lapsed_with_the_due_time_it_had(pool: str) -> None:
    for n in range(3):
        queue.put(pool, f"job-{n}", due_ms=100 + n)
    assert queue.claim(pool, "w-1") == "job-0"
    assert queue.reap(pool) == 0
    lapse(pool, "job-0")
    assert queue.reap(pool) == 1
    assert line(pool) == [("job-0", 100), ("job-1", 101), ("job-2", 102)]
    assert queue.extend(pool, "job-0", "w-1") is False
    assert not queue.release(pool, "job-0", "w-1")


def test_a_crowd_that_lapsed_together_comes_back_sixteen_at_a_time_so_that_no_claim_pays_for_all(pool: str) -> None:
    for n in range(40):
        queue.hold(pool, f"job-{n}", due_ms=n, worker="w")
    for n in range(40):
        lapse(pool, f"job-{n}")
    assert [queue.reap(pool) for _ in range(4)] == [16, 16, 8, 0]


def test_a_retry_waits_out_its_time_and_then_stands_where_it_stood(pool: str) -> None:
    queue.put(pool, "a", due_ms=100)
    queue.put(pool, "b", due_ms=200)
    queue.claim(pool, "w")
    queue.retry(pool, "a", due_ms=100, run_at=datetime.now(UTC) + SOON)
    assert stands(pool) == {"a": "delayed", "b": "waiting"}
    lapse(pool, "a")
    assert queue.claim(pool, "w") == "a"


def test_a_worker_that_lost_its_job_to_a_retry_can_neither_extend_nor_release_it(pool: str) -> None:
    queue.put(pool, "a", due_ms=100)
    queue.claim(pool, "w")
    queue.retry(pool, "a", due_ms=100, run_at=datetime.now(UTC) + SOON)
    assert queue.extend(pool, "a", "w") is False
    assert not queue.release(pool, "a", "w", give_back=True)
    assert stands(pool) == {"a": "delayed"}


@pytest.mark.parametrize("where", ["waiting", "leased", "delayed"])
def test_a_second_telling_changes_nothing_wherever_the_job_stands(pool: str, where: str) -> None:
    run_at = datetime.now(UTC) + SOON if where == "delayed" else None
    assert queue.put(pool, "a", due_ms=100, run_at=run_at)
    if where == "leased":
        queue.claim(pool, "w")
    assert not queue.put(pool, "a", due_ms=1)
    assert not queue.put(pool, "a", due_ms=1, run_at=datetime.now(UTC) + SOON)
    assert not queue.hold(pool, "a", due_ms=1, worker="another")
    assert stands(pool) == {"a": where}
    if where == "waiting":
        assert line(pool) == [("a", 100)]


def test_a_job_given_back_waits_at_the_place_it_had_and_one_released_waits_no_more(pool: str) -> None:
    queue.put(pool, "a", due_ms=100)
    queue.put(pool, "b", due_ms=200)
    queue.claim(pool, "w")
    assert not queue.release(pool, "a", "another", give_back=True)
    assert queue.release(pool, "a", "w", give_back=True)
    assert line(pool) == [("a", 100), ("b", 200)]
    queue.claim(pool, "w")
    assert queue.release(pool, "a", "w")
    assert stands(pool) == {"b": "waiting"}


@pytest.mark.parametrize("where", ["waiting", "leased", "delayed", "nowhere"])
def test_a_job_that_is_removed_stands_nowhere(pool: str, where: str) -> None:
    if where != "nowhere":
        queue.put(pool, "a", due_ms=1, run_at=datetime.now(UTC) + SOON if where == "delayed" else None)
    if where == "leased":
        queue.claim(pool, "w")
    queue.remove(pool, "a")
    assert stands(pool) == {}
    assert queue.client().exists(*queue.keys(pool)) == 0
    assert queue.extend(pool, "a", "w") is None


def test_a_lease_that_redis_forgot_is_given_back_to_the_worker_that_postgres_names(pool: str) -> None:
    assert queue.hold(pool, "a", due_ms=100, worker="w-1")
    assert queue.extend(pool, "a", "w-1") is True
    lapse(pool, "a")
    queue.reap(pool)
    assert line(pool) == [("a", 100)]


def test_jobs_that_stand_nowhere_are_found_in_one_look(pool: str) -> None:
    queue.put(pool, "waiting", due_ms=2)
    queue.put(pool, "leased", due_ms=1)
    queue.put(pool, "delayed", due_ms=1, run_at=datetime.now(UTC) + SOON)
    queue.claim(pool, "w")
    assert queue.unknown(pool, ["waiting", "leased", "delayed", "lost", "never-was"]) == {"lost", "never-was"}
    assert queue.unknown(pool, []) == set()


def test_a_jobs_place_is_how_many_are_claimed_before_it(pool: str) -> None:
    for n in range(3):
        queue.put(pool, f"job-{n}", due_ms=n)
    assert [queue.ahead(pool, f"job-{n}") for n in range(4)] == [0, 1, 2, None]
    queue.claim(pool, "w")
    assert [queue.ahead(pool, f"job-{n}") for n in range(3)] == [None, 0, 1]


def test_pools_do_not_see_each_others_jobs(pool: str) -> None:
    queue.put(pool, "a", due_ms=1)
    assert queue.claim(f"{pool}-other", "w") is None
    assert queue.unknown(f"{pool}-other", ["a"]) == {"a"}


def test_the_keys_of_a_pool_share_a_cluster_slot_and_are_the_ones_keda_counts(pool: str) -> None:
    assert queue.keys("v24") == [f"generator:{{v24}}:{part}" for part in ("queue", "leases", "delayed", "holders")]
    assert len({key_slot(key.encode()) for key in queue.keys(pool)}) == 1


def test_many_runners_claiming_at_once_never_get_one_job_twice(pool: str) -> None:
    for n in range(120):
        queue.put(pool, f"job-{n}", due_ms=n)
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
        queue.put(pool, f"job-{n}", due_ms=n)
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
    for cached in (config, queue.client, queue._script):
        cached.cache_clear()
    try:
        for ask in (lambda: queue.claim(pool, "w"), lambda: queue.depth(pool), lambda: queue.progress("a")):
            with pytest.raises(Unavailable, match="Redis"):
                ask()
    finally:
        monkeypatch.undo()
        for cached in (config, queue.client, queue._script):
            cached.cache_clear()


JOBS = st.sampled_from([f"job-{n}" for n in range(5)])
WORKERS = st.sampled_from(["w-1", "w-2"])
DUES = st.integers(-5, 5).map(lambda n: 1_767_225_600_000 + n)


@settings(max_examples=40, stateful_step_count=40, deadline=None)
class AQueue(RuleBasedStateMachine):
    """The queue beside a model of it: a dict of where each job stands, and its due time.

    Jobs of one due time are claimed in the order of their ids (Redis sorts so), which the model does too.
    """

    @initialize()
    def empty(self) -> None:
        self.pool = f"pool-{uuid.uuid4().hex}"
        self.waiting: dict[str, int] = {}
        self.leased: dict[str, tuple[int, str]] = {}
        self.delayed: dict[str, int] = {}
        self.lapsed: set[str] = set()

    def known(self, job: str) -> bool:
        return job in self.waiting or job in self.leased or job in self.delayed

    def forget(self, job: str) -> None:
        for place in (self.waiting, self.leased, self.delayed):
            place.pop(job, None)
        self.lapsed.discard(job)

    def come_back(self) -> int:
        back = {job: self.leased[job][0] if job in self.leased else self.delayed[job] for job in self.lapsed}
        for job, due_ms in back.items():
            self.forget(job)
            self.waiting[job] = due_ms
        return len(back)

    @rule(job=JOBS, due_ms=DUES, later=st.booleans())
    def put(self, job: str, due_ms: int, later: bool) -> None:
        new = not self.known(job)
        run_at = datetime.now(UTC) + SOON if later else None
        assert queue.put(self.pool, job, due_ms=due_ms, run_at=run_at) == new
        if new:
            (self.delayed if later else self.waiting)[job] = due_ms

    @rule(worker=WORKERS)
    def claim(self, worker: str) -> None:
        self.come_back()
        first = min(self.waiting, key=lambda job: (self.waiting[job], job), default=None)
        assert queue.claim(self.pool, worker) == first
        if first is not None:
            self.leased[first] = (self.waiting.pop(first), worker)

    @rule(job=JOBS, worker=WORKERS)
    def extend(self, job: str, worker: str) -> None:
        held = self.leased.get(job)
        expected = (held[1] == worker) if held else (False if self.known(job) else None)
        assert queue.extend(self.pool, job, worker) is expected
        if expected:
            self.lapsed.discard(job)

    @rule(job=JOBS, worker=WORKERS, give_back=st.booleans())
    def release(self, job: str, worker: str, give_back: bool) -> None:
        due_ms, holder = self.leased.get(job, (0, None))
        assert queue.release(self.pool, job, worker, give_back=give_back) == (holder == worker)
        if holder == worker:
            self.forget(job)
            if give_back:
                self.waiting[job] = due_ms

    @rule(job=JOBS, due_ms=DUES)
    def retry(self, job: str, due_ms: int) -> None:
        queue.retry(self.pool, job, due_ms=due_ms, run_at=datetime.now(UTC) + SOON)
        self.forget(job)
        self.delayed[job] = due_ms

    @rule(job=JOBS)
    def remove(self, job: str) -> None:
        queue.remove(self.pool, job)
        self.forget(job)

    @rule(job=JOBS, due_ms=DUES, worker=WORKERS)
    def hold(self, job: str, due_ms: int, worker: str) -> None:
        new = not self.known(job)
        assert queue.hold(self.pool, job, due_ms=due_ms, worker=worker) == new
        if new:
            self.leased[job] = (due_ms, worker)

    @rule(job=JOBS)
    def time_passes_for(self, job: str) -> None:
        lapse(self.pool, job)
        if job in self.leased or job in self.delayed:
            self.lapsed.add(job)

    @rule()
    def reap(self) -> None:
        assert queue.reap(self.pool) == self.come_back()

    @invariant()
    def every_job_stands_where_the_model_says_and_nowhere_else(self) -> None:
        assert stands(self.pool) == (
            dict.fromkeys(self.waiting, "waiting")
            | dict.fromkeys(self.leased, "leased")
            | dict.fromkeys(self.delayed, "delayed")
        )
        assert dict(line(self.pool)) == self.waiting
        holders = queue.client().hgetall(queue.keys(self.pool)[3])
        assert holders == {job: f"{due_ms} {worker}" for job, (due_ms, worker) in self.leased.items()} | {
            job: f"{due_ms} -" for job, due_ms in self.delayed.items()
        }


TestAQueueIsWhatItsModelSays = AQueue.TestCase
