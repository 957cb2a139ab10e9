"""The audit stream `generator:events`: every event told and every act of an operator, in one line each, as it happens.

A log for whoever watches (`vsgen queue watch`), capped, and without prompts. It may be lost at any time: the truth is
in Postgres, in `generator_job_transition` and `generator_operator_act`.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from functions.config import config
from functions.domain.errors import Unavailable
from functions.domain.event import Asked, Event

log = logging.getLogger(__name__)
STREAM = "generator:events"
LENGTH = 20_000
BLOCK_MS = 1000
PAUSE_S = 15.0
#: What is told of an event beside its name and its job: keys, numbers and words of our own, never a text.
SHOWN = (
    *("user_id", "attempt", "previous", "state", "cause", "worker", "code", "kind", "credits", "artifact_id"),
    *("reviewer_id", "collection_id", "debit_account", "credit_account", "amount"),
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the log. id: its place in the stream, unix ms and a number; empty until it has one."""

    name: str
    about: Mapping[str, str]
    id: str = ""

    @property
    def at(self) -> datetime:
        return datetime.fromtimestamp(int(self.id.partition("-")[0]) / 1000, UTC)


def entry(event: Event) -> Entry:
    """What the log says of an event."""
    there = set() if isinstance(event, Asked) else {field.name for field in fields(event)}
    shown = {name: getattr(event, name) for name in SHOWN if name in there}
    about = {"job_id": event.job_id} | {name: str(value) for name, value in shown.items() if value is not None}
    return Entry(name=event.name, about=about)


class Log:
    """The writing end. Nobody is kept waiting by a log: where Redis does not answer, the lines are lost, and those of
    the next few seconds as well, so that no event waits for its time-out twice."""

    def __init__(self) -> None:
        self._silent_until = 0.0

    def append(self, entries: Sequence[Entry]) -> None:
        """Write these lines, in one round trip."""
        if not entries or not config().redis_url or time.monotonic() < self._silent_until:
            return
        import redis

        from functions.adapters import queue

        line = queue.client().pipeline(transaction=False)
        for one in entries:
            line.xadd(STREAM, {"name": one.name} | dict(one.about), maxlen=LENGTH, approximate=True)
        try:
            line.execute()
        except redis.RedisError as error:
            self._silent_until = time.monotonic() + PAUSE_S
            log.warning("the audit stream misses %d lines: %s", len(entries), error.__class__.__name__)


LOG = Log()


def follow(*, since: timedelta | None = None) -> Iterator[Entry | None]:
    """Every line from now on, or from as long ago as `since` says; None each second in which there is none.

    Unavailable when Redis does not answer.
    """
    import redis

    from functions.adapters import queue

    after = "" if since is None else f"{round((datetime.now(UTC) - since).timestamp() * 1000)}-0"
    while True:
        try:
            after = after or _last(queue.client())
            found: Any = queue.client().xread({STREAM: after}, block=BLOCK_MS, count=500)
        except redis.RedisError as error:
            raise Unavailable(f"Redis: {error.__class__.__name__}") from error
        for _, lines in found:
            for id, values in lines:
                after = id
                yield Entry(id=id, name=values.pop("name", ""), about=values)
        if not found:
            yield None


def _last(redis: Any) -> str:
    """The end of the stream, as a place that does not move: `$` would, between two reads, past what nobody has read."""
    last = redis.xrevrange(STREAM, count=1)
    return str(last[0][0]) if last else "0-0"
