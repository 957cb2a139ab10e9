"""What a request comes to, and whether it may come now."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from live import Stack
from making import a_job
from sqlalchemy import Connection, create_engine

from functions import config
from functions.adapters import admission, controls, gate, jobs, load, outlook, postgres, queue
from functions.adapters.admission import Admitted
from functions.adapters.queue import Ticket
from functions.domain.errors import Rejected, Unavailable
from functions.domain.event import Actor
from functions.domain.job import State
from functions.domain.pool import Need
from functions.domain.request import JobRequest

Configure = Callable[..., config.Config]


@pytest.fixture
def pool() -> str:
    return f"pool-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def tx(stack: Stack) -> Iterator[Connection]:
    """A transaction of the schema's owner that leaves nothing behind, and of which nobody hears."""
    owner = create_engine(stack.house.env["MIGRATIONS_DATABASE_URL"])
    with owner.connect() as tx:
        tx.info[postgres.AFTER] = []
        yield tx
    owner.dispose()


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch, stack: Stack) -> Configure:
    """Let these modules have other settings."""

    def with_(**settings: Any) -> config.Config:
        found = replace(config.config(), **settings)
        for module in (admission, gate, outlook, load, queue):
            monkeypatch.setattr(module, "config", lambda: found)
        return found

    return with_


def asked(stack: Stack, **fields: Any) -> JobRequest:
    return JobRequest(prompt="a heron", model=stack.model, **{"width": 64, "height": 64, "steps": 4} | fields)


def somebody(role: str = "USER") -> Actor:
    return Actor(user_id=f"u-{uuid.uuid4().hex[:8]}", role=role)


def wait_in(pool: str, count: int, **fields: Any) -> None:
    """So many jobs of as many users, in the line of this pool."""
    for number in range(count):
        queue.put(pool, Ticket.of(a_job(pool=pool, user_id=f"waiting-{number}", **fields)))


def admitted(tx: Connection, stack: Stack, actor: Actor, **fields: Any) -> Admitted:
    return admission.admit(tx, asked(stack, **fields), actor=actor, seed=1)


def refused(tx: Connection, stack: Stack, actor: Actor, **fields: Any) -> Rejected:
    with pytest.raises(Rejected) as no:
        gate.passed(tx, admitted(tx, stack, actor, **fields), actor)
    assert no.value.retry_after_s is not None
    return no.value


def test_a_job_goes_to_the_smallest_pool_with_its_tags_and_memory(configured: Configure) -> None:
    configured(pools="v80:80=sdxl,v12:12,v24:24=sdxl")
    assert admission.choose(Need(vram_gib=8), []) == "v12"
    assert admission.choose(Need(vram_gib=8, tags=("sdxl",)), []) == "v24"
    assert admission.choose(Need(vram_gib=40), []) == "v80"
    with pytest.raises(Rejected, match="needs 96 GiB"):
        admission.choose(Need(vram_gib=96), [])


def test_a_pool_that_drains_is_passed_over_and_one_that_is_paused_is_not(tx: Connection, configured: Configure) -> None:
    configured(pools="v12:12,v24:24")
    controls.drain(tx, "v12", by="a test", reason="new drivers")
    assert admission.choose(Need(), controls.pools(tx)) == "v24"
    controls.drain(tx, "v24", by="a test", reason="new drivers")
    with pytest.raises(Rejected, match="try again later") as no:
        admission.choose(Need(), controls.pools(tx))
    assert (no.value.code, no.value.retry_after_s) == ("pool_draining", 300)
    controls.pause(tx, "v12", by="a test", reason="lunch")
    assert admission.choose(Need(), controls.pools(tx)) == "v12"


def test_a_paused_pool_gives_no_estimate_but_its_reason(
    tx: Connection, configured: Configure, stack: Stack, pool: str
) -> None:
    configured(pools=f"{pool}:24*2")
    before = admitted(tx, stack, somebody()).outlook
    assert before.wait and before.wait.raw_ms == 0
    controls.pause(tx, pool, by="a test", reason="new drivers")
    after = admitted(tx, stack, somebody()).outlook
    assert after.wait is None
    assert "paused (new drivers)" in after.words


def test_a_wait_counts_who_runs_first_and_the_gpus_that_are_free(
    tx: Connection, configured: Configure, stack: Stack, pool: str
) -> None:
    configured(pools=f"{pool}:24*2")
    wait_in(pool, 6, due_ms=1, role="USER")
    late, early = admitted(tx, stack, somebody("LOW")), admitted(tx, stack, somebody("ADMIN"))
    assert late.insight.look and early.insight.look
    assert (late.insight.look.ahead, early.insight.look.ahead) == (6, 6)
    wait_in(pool, 6, due_ms=2**52, role="LOW")
    again = admitted(tx, stack, somebody())
    assert again.insight.look and again.outlook.wait
    assert (again.insight.look.ahead, again.insight.look.load.waiting) == (6, 12)
    assert again.outlook.wait.raw_ms == pytest.approx(5 * again.insight.known.hold.mean / 2, abs=1)


def test_a_request_is_admitted_without_an_estimate_while_redis_is_away(
    tx: Connection, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise Unavailable("Redis: ConnectionError")

    monkeypatch.setattr(load, "look", away)
    actor = somebody()
    found = gate.passed(tx, admitted(tx, stack, actor), actor)
    assert (found.insight.look, found.outlook.wait) == (None, None)
    assert "cannot be seen" in found.outlook.words


def test_a_user_may_have_so_many_jobs_waiting(tx: Connection, configured: Configure, stack: Stack, pool: str) -> None:
    configured(pools=pool, max_waiting_per_user=2)
    actor = somebody()
    for _ in range(2):
        gate.passed(tx, admitted(tx, stack, actor), actor)
        job = a_job(pool=pool, user_id=actor.user_id)
        jobs.add(tx, job)
        jobs.save(tx, job.to(State.DEBITED))
        jobs.save(tx, job.to(State.DEBITED).to(State.QUEUED))
    assert refused(tx, stack, actor).code == "user_waiting_limit"
    gate.passed(tx, admitted(tx, stack, somebody()), somebody())


def test_a_role_may_have_so_many_jobs_waiting(tx: Connection, configured: Configure, stack: Stack, pool: str) -> None:
    role = f"ROLE-{uuid.uuid4().hex[:6].upper()}"
    configured(pools=pool, max_waiting_per_role=f"{role}=1")
    gate.passed(tx, admitted(tx, stack, somebody(role)), somebody(role))
    job = a_job(pool=pool, role=role)
    jobs.add(tx, job)
    jobs.save(tx, job.to(State.DEBITED))
    jobs.save(tx, job.to(State.DEBITED).to(State.QUEUED))
    assert refused(tx, stack, somebody(role)).code == "role_waiting_limit"


def test_a_pool_and_all_pools_may_have_so_many_jobs_waiting(
    tx: Connection, configured: Configure, stack: Stack, pool: str
) -> None:
    other = f"{pool}-other"
    configured(pools=f"{pool},{other}", max_waiting_per_pool=3, max_waiting=4)
    wait_in(pool, 3)
    assert refused(tx, stack, somebody()).code == "pool_waiting_limit"
    gate.passed(tx, admitted(tx, stack, somebody(), tags=(other,)), somebody())
    wait_in(other, 1)
    assert refused(tx, stack, somebody(), tags=(other,)).code == "global_waiting_limit"


def test_a_saturated_pool_refuses_lower_tiers_until_it_has_recovered(
    tx: Connection, configured: Configure, stack: Stack, pool: str
) -> None:
    configured(pools=f"{pool}:24*1", saturated_depth=4, saturated_wait_s=0.0, recovered_share=0.5)
    low, high = somebody("LOW"), somebody("CURATOR")
    waiting = [a_job(pool=pool, user_id=f"waiting-{number}") for number in range(5)]
    for job in waiting[:4]:
        queue.put(pool, Ticket.of(job))
    gate.passed(tx, admitted(tx, stack, low), low)
    queue.put(pool, Ticket.of(waiting[4]))
    no = refused(tx, stack, low)
    assert no.code == "queue_saturated"
    assert "5 jobs waiting" in no.detail
    assert gate.passed(tx, admitted(tx, stack, high), high).degraded == {}

    for job in waiting[2:]:
        assert refused(tx, stack, low).code == "queue_saturated"
        queue.remove(pool, job.id)
    assert refused(tx, stack, low).code == "queue_saturated"  # 2 of 4: not below half
    queue.remove(pool, waiting[0].id)
    gate.passed(tx, admitted(tx, stack, low), low)
    queue.put(pool, Ticket.of(waiting[0]))
    gate.passed(tx, admitted(tx, stack, low), low)  # and it does not change its mind with one job


def test_who_allows_it_gets_less_for_less_rather_than_being_refused(
    tx: Connection, configured: Configure, stack: Stack, pool: str
) -> None:
    configured(pools=pool, saturated_depth=1, saturated_wait_s=0.0)
    low = somebody("LOW")
    wait_in(pool, 2)
    whole = admitted(tx, stack, low, images=4, may_degrade=True)
    less = gate.passed(tx, whole, low)
    assert (less.images, less.degraded) == (2, {"images": {"asked": 4, "given": 2}})
    assert less.quote.credits < whole.quote.credits
    one = gate.passed(tx, admitted(tx, stack, low, images=1, steps=9, may_degrade=True), low)
    assert (one.parameters["steps"], one.degraded) == (5, {"steps": {"asked": 9, "given": 5}})
    assert refused(tx, stack, low, steps=1, may_degrade=True).code == "queue_saturated"
    wait_in(pool, 3)
    queue.put(pool, Ticket.of(a_job(pool=pool, user_id="one-more")))
    assert refused(tx, stack, low, images=4, may_degrade=True).code == "queue_saturated"  # above twice the mark
