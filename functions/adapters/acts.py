"""Operators' acts: who did what to what, when and why. Rows are only added; the audit stream hears of each as well."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from functions.adapters import audit, postgres


@dataclass(frozen=True, kw_only=True)
class Act:
    """One act. by: `vsgen:<login>` or `user:<id>`; subject: the pool, the user or the job that it was done to."""

    number: int
    at: datetime
    by: str
    act: str
    subject: str
    reason: str


RECORD = text("""
INSERT INTO generator_operator_act (by, act, subject, reason) VALUES (:by, :act, :subject, :reason)
RETURNING number, at, by, act, subject, reason
""")


def record(tx: Connection, *, by: str, act: str, subject: str, reason: str = "") -> Act:
    """Write an act down with the work of this transaction."""
    row = tx.execute(RECORD, {"by": by, "act": act, "subject": subject, "reason": reason}).one()
    done = Act(**row._mapping)
    entry = audit.Entry(name=f"operator.{act}", about={"subject": subject, "by": by, "reason": reason})
    postgres.after_commit(tx, lambda: audit.LOG.append([entry]))
    return done


LATEST = text("""
SELECT number, at, by, act, subject, reason FROM generator_operator_act
WHERE CAST(:before AS bigint) IS NULL OR number < :before ORDER BY number DESC LIMIT :limit
""")


def latest(tx: Connection, *, before: int | None = None, limit: int) -> list[Act]:
    """Acts, newest first, from just below the number `before`."""
    return [Act(**row._mapping) for row in tx.execute(LATEST, {"before": before, "limit": limit})]
