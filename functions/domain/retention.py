"""How long what is kept for whom, and why an object may go."""

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from functions.domain.job import State

#: What a runner writes (`adapters/results.py`); whatever else lies in the bucket is somebody else's, and left alone.
RUNNERS_OWN = re.compile(
    r"generated/(?P<job>[A-Za-z0-9][A-Za-z0-9_-]{0,63})/(?P<attempt>[0-9]{1,6})/"
    r"(?:(?P<manifest>manifest\.json)|(?P<stem>[0-9]{2,}-[0-9a-f]{16})"
    r"(?:\.(?:png|jpg|webp)|(?P<thumbnail>\.thumbnail(?:-[0-9]+)?\.webp)))"
)
SUFFIXES = ("png", "jpg", "webp")
#: What the clock says when it turns a picture down that nobody reviewed.
EXPIRED = "expired"
#: Nobody can need what no row knows before this is over: a runner may be between its upload and its report.
WRITERS_OWN = frozenset(set(State) - {State.AWAITING_REVIEW, State.COMPLETED, State.FAILED, State.CANCELLED})


class Why(StrEnum):
    """Why something was deleted, or a decision made by the clock."""

    DISCARDED = "discarded"  # a curator turned it down, and the time to undo that is over
    EXPIRED = "expired"  # nobody reviewed it in time
    DELIVERED = "delivered"  # handed over without a review, and the time for that is over
    CURATED = "curated"  # its collection has a copy of its own
    STALE = "stale"  # the job did not move for too long
    FAILED = "failed"  # what a job that failed or was called off left behind
    UNNEEDED = "unneeded"  # its last reference went, or it was a second copy of the same bytes
    ORPHAN = "orphan"  # an object that no row knows
    MISSING = "missing"  # a row whose object is gone
    UNFINISHED = "unfinished"  # parts of an upload that never ended
    PAST_USE = "past_use"  # nothing can ask about it any more


@dataclass(frozen=True, kw_only=True)
class Periods:
    """How long each class is kept; None is for ever. A change holds for what is there already."""

    discarded: timedelta
    unreviewed: timedelta
    failed: timedelta
    stale: timedelta
    curated: timedelta | None
    delivered: timedelta | None
    orphans: timedelta
    events: timedelta


@dataclass(frozen=True, kw_only=True)
class Found:
    """A runner's object as its key tells: whose, of which attempt, and what. `pictures`: keys of the picture it is, or
    was made from; a manifest has none."""

    key: str
    job_id: str
    attempt: int
    pictures: tuple[str, ...]


def read(key: str) -> Found | None:
    """What a key in the outputs bucket says; None for what is not a runner's."""
    match = RUNNERS_OWN.fullmatch(key)
    if match is None:
        return None
    folder, stem = key.rpartition("/")[0], match["stem"]
    if match["manifest"]:
        pictures: tuple[str, ...] = ()
    elif match["thumbnail"]:
        pictures = tuple(f"{folder}/{stem}.{suffix}" for suffix in SUFFIXES)
    else:
        pictures = (key,)
    return Found(key=key, job_id=match["job"], attempt=int(match["attempt"]), pictures=pictures)


def why_unneeded(state: State | None, *, needed: bool, age: timedelta, periods: Periods) -> Why | None:
    """Why an object may be deleted that has this age, and whose job stands here (None: there is no such job); None when
    it must stay."""
    if needed or state in WRITERS_OWN:
        return None
    if state in (State.FAILED, State.CANCELLED):
        return Why.FAILED if age >= max(periods.failed, periods.orphans) else None
    return Why.ORPHAN if age >= periods.orphans else None
