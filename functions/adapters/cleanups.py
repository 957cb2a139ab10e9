"""Runs of retention: what each did and why, with counts and bytes, kept."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text


@dataclass(frozen=True, kw_only=True)
class Did:
    """One line of a run's account: `did` is what was done, `why` the reason; bytes are 0 where none are counted."""

    did: str
    why: str
    count: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run. Without an end it still runs, or was killed; `problem` says why it did not get through."""

    number: int
    by: str
    dry_run: bool
    began_at: datetime
    ended_at: datetime | None
    done: tuple[Did, ...]
    problem: str | None


BEGIN = text("""
INSERT INTO generator_cleanup (by, dry_run, began_at) VALUES (:by, :dry_run, :at) RETURNING number
""")


def begin(tx: Connection, *, by: str, dry_run: bool, at: datetime) -> int:
    """Write down that a run begins; gives its number."""
    return int(tx.execute(BEGIN, {"by": by, "dry_run": dry_run, "at": at}).scalar_one())


SAVE = text("""
UPDATE generator_cleanup SET done = CAST(:done AS jsonb), ended_at = :ended_at, problem = :problem
WHERE number = :number
""")


def save(
    tx: Connection, number: int, done: Sequence[Did], *, ended_at: datetime | None, problem: str | None = None
) -> None:
    """Write down how far a run is."""
    values = {"number": number, "done": json.dumps([asdict(one) for one in done])}
    tx.execute(SAVE, values | {"ended_at": ended_at, "problem": problem})


LATEST = text("""
SELECT number, by, dry_run, began_at, ended_at, done, problem FROM generator_cleanup ORDER BY number DESC LIMIT :limit
""")


def latest(tx: Connection, *, limit: int) -> list[Run]:
    """The last runs, newest first."""
    return [_run(row) for row in tx.execute(LATEST, {"limit": limit})]


GET = text("""
SELECT number, by, dry_run, began_at, ended_at, done, problem FROM generator_cleanup WHERE number = :number
""")


def get(tx: Connection, number: int) -> Run:
    """One run."""
    return _run(tx.execute(GET, {"number": number}).one())


def _run(row: Row[Any]) -> Run:
    return Run(**dict(row._mapping) | {"done": tuple(Did(**one) for one in row.done)})
