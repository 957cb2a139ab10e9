"""What operators have ordered: pools that are paused or drain, users that are blocked.

The rows in Postgres are the orders; Redis is told after the commit, and sweep tells it again (`apply`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, text

from functions.adapters import jobs, postgres, queue
from functions.config import config
from functions.domain.errors import Rejected

OPERATOR = "operator"  # the reason for which a paused pool is closed


@dataclass(frozen=True, kw_only=True)
class PoolControl:
    """Nothing is claimed from this pool, by whose order, since when and why; draining: nor does it take new jobs."""

    pool: str
    mode: Literal["paused", "draining"]
    reason: str
    by: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class UserBlock:
    """This user's waiting jobs are held and new ones refused, by whose order, since when and why."""

    user_id: str
    reason: str
    by: str
    at: datetime


SET_MODE = text("""
INSERT INTO generator_pool_control (pool, mode, reason, by) VALUES (:pool, :mode, :reason, :by)
ON CONFLICT (pool) DO UPDATE SET mode = excluded.mode, reason = excluded.reason, by = excluded.by, at = now()
""")


def pause(tx: Connection, pool: str, *, by: str, reason: str = "") -> None:
    """Let nothing be claimed from the pool; what runs goes on, and new jobs wait."""
    _set_mode(tx, pool, "paused", by=by, reason=reason)


def drain(tx: Connection, pool: str, *, by: str, reason: str = "") -> None:
    """Pause the pool, and let new jobs go to another that fits, or be refused."""
    _set_mode(tx, pool, "draining", by=by, reason=reason)


def _set_mode(tx: Connection, pool: str, mode: str, *, by: str, reason: str) -> None:
    tx.execute(SET_MODE, {"pool": pool, "mode": mode, "reason": reason, "by": by})
    postgres.after_commit(tx, lambda: queue.close(pool, OPERATOR))


RESUME = text("DELETE FROM generator_pool_control WHERE pool = :pool")


def resume(tx: Connection, pool: str) -> bool:
    """Let the pool work again; False when it did."""
    postgres.after_commit(tx, lambda: queue.open_(pool, OPERATOR))
    return tx.execute(RESUME, {"pool": pool}).rowcount == 1


POOLS = text("SELECT pool, mode, reason, by, at FROM generator_pool_control ORDER BY pool")


def pools(tx: Connection) -> list[PoolControl]:
    """The standing orders, by pool; there is none for a pool that works."""
    return [PoolControl(**row._mapping) for row in tx.execute(POOLS)]


BLOCK = text("""
INSERT INTO generator_user_block (user_id, reason, by) VALUES (:user_id, :reason, :by)
ON CONFLICT (user_id) DO UPDATE SET reason = excluded.reason, by = excluded.by, at = now()
""")


def block(tx: Connection, user_id: str, *, by: str, reason: str = "") -> None:
    """Hold what this user has waiting, and take nothing new; what runs goes on (`cancel` stops it)."""
    tx.execute(BLOCK, {"user_id": user_id, "reason": reason, "by": by})
    waiting = jobs.waiting_of(tx, user_id, config().pool_names)
    postgres.after_commit(tx, lambda: _hold_back(user_id, waiting))


def _hold_back(user_id: str, waiting: Mapping[str, list[str]]) -> None:
    for pool in config().pool_names:
        queue.block(pool, user_id, waiting.get(pool, []))


UNBLOCK = text("DELETE FROM generator_user_block WHERE user_id = :user_id")


def unblock(tx: Connection, user_id: str) -> bool:
    """Let this user's jobs wait like anybody's; False when they did."""
    postgres.after_commit(tx, lambda: _let_in(user_id))
    return tx.execute(UNBLOCK, {"user_id": user_id}).rowcount == 1


def _let_in(user_id: str) -> None:
    for pool in config().pool_names:
        queue.unblock(pool, user_id)


BLOCKED = text("SELECT user_id, reason, by, at FROM generator_user_block ORDER BY user_id")


def blocked(tx: Connection) -> list[UserBlock]:
    """The standing blocks, by user."""
    return [UserBlock(**row._mapping) for row in tx.execute(BLOCKED)]


IS_BLOCKED = text("SELECT true FROM generator_user_block WHERE user_id = :user_id")


def check_user(tx: Connection, user_id: str) -> None:
    """Rejected `user_blocked` when an operator has blocked this user."""
    if tx.execute(IS_BLOCKED, {"user_id": user_id}).one_or_none() is not None:
        raise Rejected("user_blocked", "an operator has blocked your submissions: ask them to unblock you")


def apply() -> int:
    """Tell Redis of every order once more, and take back there what stands no longer; gives how many it had wrong."""
    with postgres.transaction() as tx:
        ordered = {order.pool for order in pools(tx)}
        waiting = {one.user_id: jobs.waiting_of(tx, one.user_id, config().pool_names) for one in blocked(tx)}
    wrong = 0
    for pool in config().pool_names:
        if (pool in ordered) != (OPERATOR in queue.closed(pool)):
            wrong += 1
            (queue.close if pool in ordered else queue.open_)(pool, OPERATOR)
        known = queue.blocked(pool)
        wrong += len(known ^ waiting.keys())
        for user_id, those in waiting.items():
            queue.block(pool, user_id, those.get(pool, []))
        for user_id in known - waiting.keys():
            queue.unblock(pool, user_id)
    return wrong
