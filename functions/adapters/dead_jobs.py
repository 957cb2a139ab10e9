"""Jobs that no retry could help, in Postgres: each failed for good, was refunded, and waits for an operator.

Not to be confused with `dead_letters`, the events that no function could take.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from functions.domain import retry
from functions.domain.errors import Failure

ID_LENGTH = 64


@dataclass(frozen=True, kw_only=True)
class DeadJob:
    """A dead job, without what its user wrote. credits: what it cost, and what was given back.

    root, serial: the job that was asked for first, and the number that its line of requeues has come to.
    requeued_as: the job that was asked for in its stead.
    """

    number: int
    job_id: str
    root: str
    serial: int
    user_id: str
    role: str
    pool: str
    model: str
    workflow_id: str
    credits: int
    code: str
    attempts: int
    died_at: datetime
    requeued_as: str | None
    requeued_at: datetime | None
    requeued_by: str | None
    dropped_at: datetime | None
    dropped_by: str | None
    dropped_why: str | None

    @property
    def standing(self) -> str:
        return "dropped" if self.dropped_at else "requeued" if self.requeued_at else "open"

    @property
    def kind(self) -> Failure:
        return retry.kind(self.code)

    @property
    def next_id(self) -> str:
        """The id of the job that a requeue makes; it begins with the first one's, as far as there is room for it."""
        suffix = f"-r{self.serial + 1}"
        if len(self.root) + len(suffix) <= ID_LENGTH:
            return self.root + suffix
        digest = hashlib.sha256(self.root.encode()).hexdigest()[:12]
        return f"{self.root[: ID_LENGTH - len(suffix) - len(digest) - 1]}-{digest}{suffix}"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which dead jobs; what is None does not matter. until: died by then. settled: requeued and dropped ones, too."""

    code: str | None = None
    pool: str | None = None
    user_id: str | None = None
    model: str | None = None
    until: datetime | None = None
    settled: bool = False


SHOWN = ", ".join(field.name for field in fields(DeadJob))
FOUND = text(f"""
SELECT {SHOWN} FROM generator_dead_job
WHERE number > :after AND (:settled OR (requeued_at IS NULL AND dropped_at IS NULL))
  AND (CAST(:code AS text) IS NULL OR code = :code) AND (CAST(:pool AS text) IS NULL OR pool = :pool)
  AND (CAST(:user_id AS text) IS NULL OR user_id = :user_id) AND (CAST(:model AS text) IS NULL OR model = :model)
  AND (CAST(:until AS timestamptz) IS NULL OR died_at <= :until)
ORDER BY number LIMIT :limit
""")  # noqa: S608


def find(tx: Connection, wanted: Wanted, *, after: int = 0, limit: int) -> list[DeadJob]:
    """Such jobs in the order they died, from just above the number `after`."""
    rows = tx.execute(FOUND, vars(wanted) | {"after": after, "limit": limit})
    return [_dead(row) for row in rows]


GET = text(f"SELECT {SHOWN} FROM generator_dead_job WHERE job_id = :job_id")  # noqa: S608


def get(tx: Connection, job_id: str) -> DeadJob | None:
    """The dead job of this id."""
    row = tx.execute(GET, {"job_id": job_id}).one_or_none()
    return None if row is None else _dead(row)


LOCKED = text(f"SELECT {SHOWN} FROM generator_dead_job WHERE job_id = :job_id FOR UPDATE")  # noqa: S608


def locked(tx: Connection, job_id: str) -> DeadJob | None:
    """The dead job, held for this transaction: whoever else would requeue or drop it waits."""
    row = tx.execute(LOCKED, {"job_id": job_id}).one_or_none()
    return None if row is None else _dead(row)


@dataclass(frozen=True, kw_only=True)
class AttemptError:
    """What went wrong with one attempt; the kind is the runner's word where it had one, else the code's class. A drain
    is nobody's failure and has none."""

    attempt: int
    code: str
    kind: str | None
    detail: str | None
    worker: str | None
    at: datetime


ERRORS = text("""
SELECT attempt, code, kind, detail, worker, at FROM generator_job_error WHERE job_id = :job_id ORDER BY number
""")


def errors(tx: Connection, job_id: str) -> list[AttemptError]:
    """Everything that went wrong with a job, oldest first."""
    found = [AttemptError(**row._mapping) for row in tx.execute(ERRORS, {"job_id": job_id})]
    return [
        one if one.kind or one.code == retry.DRAINED else replace(one, kind=str(retry.kind(one.code))) for one in found
    ]


REQUEUED = text("""
UPDATE generator_dead_job SET requeued_as = :next_id, requeued_at = now(), requeued_by = :by, serial = serial + 1
WHERE job_id = :job_id
""")


def mark_requeued(tx: Connection, dead: DeadJob, *, by: str) -> None:
    """Write down that it was asked for anew, under its `next_id`. The caller holds it (`locked`)."""
    tx.execute(REQUEUED, {"job_id": dead.job_id, "next_id": dead.next_id, "by": by})


DROPPED = text("""
UPDATE generator_dead_job SET dropped_at = now(), dropped_by = :by, dropped_why = :reason WHERE job_id = :job_id
""")


def mark_dropped(tx: Connection, dead: DeadJob, *, by: str, reason: str) -> None:
    """Let nobody be asked about it again. The caller holds it (`locked`)."""
    tx.execute(DROPPED, {"job_id": dead.job_id, "by": by, "reason": reason})


def record(dead: DeadJob, history: Sequence[AttemptError] | None = None) -> Mapping[str, Any]:
    """All that is known of it, by name, as commands and REST tell it."""
    told = vars(dead) | {"standing": dead.standing, "kind": str(dead.kind)}
    return told if history is None else told | {"errors": [vars(one) for one in history]}


def _dead(row: Row[Any]) -> DeadJob:
    return DeadJob(**row._mapping)
