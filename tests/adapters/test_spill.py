"""Jobs that go to another pool: after a long wait to a bigger idle one, and after running out of memory."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from live import Stack
from making import a_job
from sqlalchemy import text

from functions import config
from functions.adapters import controls, jobs, load, postgres, queue, spill
from functions.adapters.lease import Lease
from functions.adapters.queue import Ticket
from functions.attempt import Attempt
from functions.complete import complete
from functions.domain.errors import Failure
from functions.domain.event import RenderFailed
from functions.domain.job import Job, State

LONG_AGO = timedelta(hours=1)


@pytest.fixture
def small() -> str:
    return f"pool-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def big(small: str) -> str:
    return f"{small}-big"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, stack: Stack, small: str, big: str) -> Callable[..., None]:
    """Let the house have a small pool and a big one with two GPUs, unless something else is said."""

    def with_(pools: str = f"{small}:12*1,{big}:24*2=sdxl", **others: Any) -> None:
        found = replace(config.config(), pools=pools, **others)
        for module in (spill, load, queue):
            monkeypatch.setattr(module, "config", lambda: found)

    with_()
    return with_


@pytest.fixture(autouse=True)
def nothing_stays(settings: Callable[..., None], small: str, big: str) -> Iterator[None]:
    yield
    with postgres.transaction() as tx:
        for name in (small, big):
            controls.resume(tx, name)
            for job in jobs.live(tx, name, after="", limit=100):
                locked = jobs.locked(tx, job.id)
                assert locked
                jobs.save(tx, locked.to(State.CANCELLED))


def waiting(pool: str, *, since: timedelta = LONG_AGO, **fields: Any) -> Job:
    """A job in the line of this pool for so long."""
    job = a_job(pool=pool, user_id=f"u-{uuid.uuid4().hex[:8]}", **fields)
    with postgres.transaction() as tx:
        jobs.add(tx, job)
        jobs.save(tx, job.to(State.DEBITED))
        queued = job.to(State.DEBITED).to(State.QUEUED, changed_at=datetime.now(UTC) - since)
        jobs.save(tx, queued)
    queue.put(pool, Ticket.of(queued))
    return queued


def pool_of(job: Job) -> str:
    with postgres.transaction() as tx:
        kept = jobs.get(tx, job.id)
    assert kept
    return kept.pool


def stands(job: Job, *pools: str) -> list[str]:
    """In which of these pools' lines Redis has the job."""
    return [pool for pool in pools if queue.standing(pool, job.id)]


def test_jobs_that_wait_too_long_go_to_the_idle_gpus_of_a_bigger_pool_the_longest_waiting_first(
    small: str, big: str
) -> None:
    those = [waiting(small, since=LONG_AGO - timedelta(minutes=minute)) for minute in range(3)]
    fresh = waiting(small, since=timedelta(seconds=1))
    assert spill.spill() == 2
    assert [pool_of(job) for job in (*those, fresh)] == [big, big, small, small]
    assert [stands(job, small, big) for job in (*those, fresh)] == [[big], [big], [small], [small]]
    assert spill.spill() == 0  # its two GPUs are spoken for
    assert {queue.claim(big, "w1"), queue.claim(big, "w2")} == {those[0].id, those[1].id}


def test_what_the_bigger_pool_does_not_offer_or_cannot_run_stays(small: str, big: str) -> None:
    tagged = waiting(small, tags=(small,))
    assert spill.spill() == 0
    assert pool_of(tagged) == small


def test_nothing_goes_to_a_closed_pool_or_when_it_is_switched_off(
    settings: Callable[..., None], small: str, big: str
) -> None:
    job = waiting(small)
    with postgres.transaction() as tx:
        controls.pause(tx, big, by="a test", reason="r")
    assert spill.spill() == 0
    with postgres.transaction() as tx:
        controls.resume(tx, big)
    settings(spill_after_s=0.0)
    assert spill.spill() == 0
    settings()
    assert spill.spill() == 1
    assert pool_of(job) == big


def test_a_blocked_user_s_jobs_take_no_gpu_of_another_pool(small: str, big: str) -> None:
    job = waiting(small)
    with postgres.transaction() as tx:
        controls.block(tx, job.user_id, by="a test", reason="r")
    assert spill.spill() == 0
    with postgres.transaction() as tx:
        controls.unblock(tx, job.user_id)


def test_a_job_that_was_claimed_or_called_off_meanwhile_stays_where_it_is(small: str, big: str) -> None:
    claimed, off = waiting(small), waiting(small)
    with postgres.transaction() as tx:
        for job, state in ((claimed, State.DISPATCHING), (off, State.CANCELLED)):
            jobs.save(tx, job.to(state, worker="w" if state is State.DISPATCHING else None))
    assert not spill._move(claimed.id, was=small, to=big)
    assert not spill._move(off.id, was=small, to=big)
    assert load.leaving(small) == set()
    assert stands(claimed, small, big) == [small]


def test_a_sweep_that_died_between_postgres_and_redis_is_made_up_for_by_the_next(small: str, big: str) -> None:
    job = waiting(small)
    load.note_leaving(small, job.id)
    with postgres.transaction() as tx:
        tx.execute(spill.SPILL, {"id": job.id, "pool": big})
    assert stands(job, small, big) == [small]
    spill.spill()
    assert stands(job, small, big) == [big]
    assert load.leaving(small) == set()


def test_a_runner_puts_down_a_job_that_has_gone_to_another_pool(small: str, big: str) -> None:
    job = waiting(small)
    with postgres.transaction() as tx:
        tx.execute(spill.SPILL, {"id": job.id, "pool": big})
    assert queue.claim(small, "w") == job.id
    assert Attempt.begin(Lease(pool=small, job_id=job.id, worker="w")) is None
    assert pool_of(job) == big
    with postgres.transaction() as tx:
        kept = jobs.get(tx, job.id)
    assert kept
    assert (kept.state, kept.worker) == (State.QUEUED, None)


# --- out of memory ---


def failed(job: Job, kind: Failure) -> Job:
    """The job after a runner of its pool has failed it this way."""
    with postgres.transaction() as tx:
        running = job.to(State.DISPATCHING, worker="w")
        jobs.save(tx, running)
    queue.claim(job.pool, "w")
    report = RenderFailed(job_id=job.id, attempt=job.attempt, worker="w", kind=kind, code=kind, detail="d")
    with postgres.transaction() as tx:
        complete(tx, report)
    with postgres.transaction() as tx:
        kept = jobs.get(tx, job.id)
    assert kept
    return kept


def test_a_job_that_ran_out_of_memory_tries_the_next_bigger_pool(small: str, big: str) -> None:
    again = failed(waiting(small), Failure.OUT_OF_MEMORY)
    assert (again.pool, again.state, again.attempt) == (big, State.QUEUED, 2)
    assert stands(again, small, big) == [big]


def test_a_job_that_failed_otherwise_tries_its_own_pool_again(small: str, big: str) -> None:
    again = failed(waiting(small), Failure.TRANSIENT)
    assert (again.pool, stands(again, small, big)) == (small, [small])


def test_where_there_is_no_bigger_pool_memory_may_be_free_the_next_time(big: str) -> None:
    again = failed(waiting(big), Failure.OUT_OF_MEMORY)
    assert (again.pool, again.attempt) == (big, 2)


def test_what_needs_more_memory_is_not_sent_where_it_is_missing(
    settings: Callable[..., None], small: str, big: str
) -> None:
    settings(pools=f"{small}:1*1,{big}:2*2")  # less than its workflow declares
    job = waiting(small)
    assert spill.spill() == 0
    with postgres.transaction() as tx:
        vram = tx.execute(text("SELECT document ->> 'vram_gib' FROM generator_workflow WHERE id = 'txt2img'")).scalar()
        assert float(str(vram)) > 2
        assert spill.bigger(tx, job) is None
