"""Redis made to agree with Postgres, whatever it has lost or dug out again, while runners go on claiming."""

import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from making import a_job
from sqlalchemy import text

from functions.adapters import jobs, postgres, queue, rebuild, workflows
from functions.adapters.queue import Ticket
from functions.domain.job import Job, State

pytestmark = pytest.mark.usefixtures("stack")
OFF = text("UPDATE generator_job SET state = 'cancelled' WHERE pool = :pool AND state <> 'cancelled'")


@pytest.fixture
def pool() -> Iterator[str]:
    """A pool that no runner serves; what stays unfinished in it is called off, or sweep would go on filling it."""
    name = f"pool-{uuid.uuid4().hex[:8]}"
    yield name
    with postgres.transaction() as tx:
        tx.execute(OFF, {"pool": name})
    forget(name)


def forget(pool: str) -> None:
    if keys := list(queue.client().scan_iter(queue.key(pool, "*"), count=1000)):
        queue.client().delete(*keys)


def kept(pool: str, *states: State, worker: str | None = None) -> Job:
    """A job that went these ways a while ago, in Postgres only."""
    a_while_ago = datetime.now(UTC) - timedelta(minutes=1)
    with postgres.transaction() as tx:
        sha256 = workflows.find(tx, "txt2img", None).sha256
        name = f"job-{uuid.uuid4().hex[:12]}"
        job = a_job(id=name, user_id=f"of {name}", pool=pool, workflow_sha256=sha256, changed_at=a_while_ago)
        jobs.add(tx, job)
        for state in states:
            job = job.to(state, worker=worker if state is State.DISPATCHING else job.worker)
            jobs.save(tx, job)
    return job


def queued(pool: str) -> Job:
    return kept(pool, State.DEBITED, State.QUEUED)


def call_off(job: Job) -> None:
    with postgres.transaction() as tx:
        jobs.save(tx, job.to(State.CANCELLED))


def known(pool: str) -> set[str]:
    return {name for page in queue.scan(pool) for name in page}


def test_what_redis_has_lost_is_put_back_where_it_stood(pool: str) -> None:
    waiting = [queued(pool) for _ in range(3)]
    running = kept(pool, State.DEBITED, State.QUEUED, State.DISPATCHING, worker="w")
    rebuild.compare(pool)
    assert known(pool) == {job.id for job in (*waiting, running)}
    assert queue.holds(pool, running.id, "w")
    assert rebuild.compare(pool) == 0


def test_a_word_to_redis_that_was_lost_is_made_up_for_without_looking_at_everything(pool: str) -> None:
    rebuild.compare(pool)
    before = queue.mark(pool)
    lost, over = queued(pool), queued(pool)
    queue.put(pool, Ticket.of(over))
    call_off(over)  # and Redis is not told
    rebuild.compare(pool)
    assert known(pool) == {lost.id}
    assert before is not None
    assert int(queue.mark(pool) or 0) > int(before)


def test_a_snapshot_from_before_holds_nothing_that_is_over_and_lacks_nothing_that_came_since(pool: str) -> None:
    over, stays = queued(pool), queued(pool)
    rebuild.compare(pool)
    old = {
        "jobs": queue.client().hgetall(queue.key(pool, "jobs")),
        "slots": queue.client().hgetall(queue.key(pool, "slots")),
        "queue": dict(queue.client().zrange(queue.key(pool, "queue"), 0, -1, withscores=True)),
        "mark": queue.mark(pool),
    }
    call_off(over)
    queue.remove(pool, over.id)
    came = queued(pool)
    rebuild.compare(pool)
    forget(pool)  # Redis comes back from a snapshot
    queue.client().hset(queue.key(pool, "jobs"), mapping=old["jobs"])
    queue.client().hset(queue.key(pool, "slots"), mapping=old["slots"])
    queue.client().hset(queue.key(pool, "tiers"), mapping={"CURATOR": len(old["jobs"])})
    queue.client().zadd(queue.key(pool, "queue"), old["queue"])
    queue.client().set(queue.key(pool, "mark"), old["mark"])
    assert known(pool) == {over.id, stays.id}
    rebuild.compare(pool)
    assert known(pool) == {stays.id, came.id}
    assert queue.depth(pool)["waiting"] == 2


def test_a_job_that_went_to_another_pool_stands_in_that_one_only(pool: str) -> None:
    other = f"{pool}-other"
    job = queued(other)
    queue.put(pool, Ticket.of(job))
    rebuild.compare(pool, everything=True)
    rebuild.compare(other)
    assert (known(pool), known(other)) == (set(), {job.id})
    call_off(job)
    forget(other)


def test_while_redis_is_filled_again_runners_claim_and_get_each_job_once(pool: str) -> None:
    waiting = {queued(pool).id for _ in range(40)}
    rebuild.compare(pool)
    claimed: Counter[str] = Counter()
    lock, over = threading.Lock(), threading.Event()

    def run(worker: str) -> None:
        while not over.is_set():
            name = queue.claim(pool, worker)
            if name is None:
                continue
            with postgres.transaction() as tx:  # as a runner begins: Postgres decides
                job = jobs.locked(tx, name)
                if job is None or job.state is not State.QUEUED:
                    continue
                jobs.save(tx, job.to(State.DISPATCHING, worker=worker, changed_at=datetime.now(UTC)))
            with lock:
                claimed[name] += 1

    threads = [threading.Thread(target=run, args=(f"w-{n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        forget(pool)
        rebuild.compare(pool)
    while sum(claimed.values()) < len(waiting) and queue.depth(pool)["waiting"]:
        over.wait(0.05)
    over.set()
    for thread in threads:
        thread.join()
    assert set(claimed) == waiting
    assert set(claimed.values()) == {1}
