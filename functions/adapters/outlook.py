"""What somebody can be told of a pool: how long it will be, or why nobody can say."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection

from functions.adapters import estimates, load
from functions.adapters.controls import PoolControl
from functions.adapters.load import Look
from functions.config import config
from functions.domain import estimate, place
from functions.domain.errors import Unavailable
from functions.domain.estimate import Known, Wait

log = logging.getLogger(__name__)
UNSEEN = "The queue cannot be seen right now, so there is no estimate; nothing is lost."


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """A wait, or None, and the same in words."""

    wait: Wait | None
    words: str


@dataclass(frozen=True, kw_only=True)
class Insight:
    """What is known of a pool. look: how it stands; None: Redis does not answer. workers: GPUs that may be at work at
    once. order: an operator's, who closed it. oldest_at: since when jobs could have been claimed where none is."""

    pool: str
    look: Look | None
    workers: int
    known: Known
    order: PoolControl | None
    oldest_at: datetime | None

    @property
    def closed(self) -> str | None:
        """How an operator closed the pool, in words; None when none did."""
        if self.order is None:
            return None
        return f"{self.order.mode} ({self.order.reason})" if self.order.reason else self.order.mode

    def outlook(self, *, ahead: int | None = None) -> Outlook:
        """How long a job will wait that comes now, or one that has so many before it."""
        if self.look is None:
            return Outlook(wait=None, words=UNSEEN)
        silence = estimate.silence(
            self.look.load,
            pool=self.pool,
            max_workers=self.workers,
            closed=self.closed,
            oldest_wait_s=(datetime.now(UTC) - self.oldest_at).total_seconds() if self.oldest_at else None,
            stalled_s=config().stalled_s,
        )
        if silence:
            return Outlook(wait=None, words=silence)
        before = self.look.ahead if ahead is None else ahead
        wait = self.known.wait(self.look.load, ahead=before, max_workers=self.workers)
        return Outlook(wait=wait, words=estimate.in_words(wait))

    @property
    def drain_s(self) -> float:
        """Seconds until everything that waits would have been claimed, if nothing new came."""
        backlog = self.look.load.backlog if self.look else 0
        return backlog * self.known.served_ms / max(1, self.workers) / 1000


def look(pool: str, *, user_id: str, role: str, boost: int = 0) -> Look | None:
    """The pool as a job of this user's would meet it that came now; None: Redis does not answer."""
    now_ms = round(datetime.now(UTC).timestamp() * 1000)
    head_start_ms = place.head_start_ms(role, boost, worth_ms=config().head_starts_ms)
    try:
        return load.look(pool, user_id=user_id, due_ms=place.due_ms(start_ms=now_ms, head_start_ms=head_start_ms))
    except Unavailable as error:
        log.warning("pool %s is not seen: %s", pool, error)
        return None


def insights(
    tx: Connection,
    looks: Mapping[str, Look | None],
    *,
    orders: Sequence[PoolControl],
    role: str,
    workflow_id: str = "",
    model: str = "",
) -> dict[str, Insight]:
    """What is known of each of the pools that were looked at, for somebody of this role and, where they are given, this
    workflow and model."""
    known = estimates.known(tx, list(looks), role=role, workflow_id=workflow_id, model=model)
    quiet = [name for name, seen in looks.items() if seen and seen.load.waiting and not seen.load.leased]
    oldest = estimates.oldest_waits(tx, quiet) if quiet else {}
    by_pool = {order.pool: order for order in orders}
    return {
        name: Insight(
            pool=name,
            look=seen,
            workers=config().workers(name),
            known=known[name],
            order=by_pool.get(name),
            oldest_at=oldest.get(name),
        )
        for name, seen in looks.items()
    }
