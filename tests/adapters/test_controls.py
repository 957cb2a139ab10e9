"""Operators' orders: they stand in Postgres, hold in Redis, and outlive whatever Redis forgets."""

import uuid
from collections.abc import Iterator

import pytest

from functions.adapters import controls, postgres, queue
from functions.adapters.queue import Ticket
from functions.config import config
from functions.domain.errors import Rejected

pytestmark = pytest.mark.usefixtures("stack")


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A pool that no runner serves, and the only one this process knows."""
    name = f"pool-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("POOLS", name)
    config.cache_clear()
    yield name
    with postgres.transaction() as tx:
        controls.resume(tx, name)
        controls.unblock(tx, "ada")
    monkeypatch.undo()
    config.cache_clear()


def put(pool: str, job: str, user: str) -> None:
    queue.put(pool, Ticket(job_id=job, due_ms=1, user_id=user, tier="USER", model="sd15"))


def test_nothing_is_claimed_from_a_paused_pool_until_it_is_resumed(pool: str) -> None:
    put(pool, "a", "ada")
    with postgres.transaction() as tx:
        controls.pause(tx, pool, by="ops", reason="a new driver")
        assert queue.claim(pool, "w") == "a", "an order holds once it stands"
    put(pool, "b", "ada")
    assert queue.claim(pool, "w") is None
    with postgres.transaction() as tx:
        [order] = [order for order in controls.pools(tx) if order.pool == pool]
        assert (order.mode, order.by, order.reason) == ("paused", "ops", "a new driver")
        assert controls.resume(tx, pool)
    assert queue.claim(pool, "w") == "b"


def test_a_paused_pool_may_be_drained_by_another_order(pool: str) -> None:
    with postgres.transaction() as tx:
        controls.pause(tx, pool, by="ops")
        controls.drain(tx, pool, by="ops")
        assert [order.mode for order in controls.pools(tx) if order.pool == pool] == ["draining"]
    assert queue.closed(pool) == {"operator"}


def test_a_blocked_user_may_not_submit_and_his_jobs_are_held(pool: str) -> None:
    with postgres.transaction() as tx:
        controls.check_user(tx, "ada")
        controls.block(tx, "ada", by="ops", reason="a flood")
    put(pool, "a", "ada")
    assert queue.claim(pool, "w") is None
    with postgres.transaction() as tx:
        assert [one.user_id for one in controls.blocked(tx) if one.user_id == "ada"] == ["ada"]
        with pytest.raises(Rejected, match="operator") as refused:
            controls.check_user(tx, "ada")
        assert refused.value.code == "user_blocked"
        assert controls.unblock(tx, "ada")
    assert queue.claim(pool, "w") == "a"


def test_orders_are_told_again_to_a_redis_that_forgot_them_and_taken_back_where_they_stand_no_longer(pool: str) -> None:
    with postgres.transaction() as tx:
        controls.pause(tx, pool, by="ops")
        controls.block(tx, "ada", by="ops")
    queue.client().delete(*queue.client().scan_iter(queue.key(pool, "*")))
    assert controls.apply() == 2
    assert (queue.closed(pool), queue.blocked(pool)) == ({"operator"}, {"ada"})
    assert controls.apply() == 0
    with postgres.transaction() as tx:
        tx.execute(controls.RESUME, {"pool": pool})
        tx.execute(controls.UNBLOCK, {"user_id": "ada"})
    assert controls.apply() == 2
    assert (queue.closed(pool), queue.blocked(pool)) == (set(), set())
