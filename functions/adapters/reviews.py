"""What waits for a curator, and who did what with which picture, to its end and after."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from functions.adapters.artifacts import COLUMNS, Kept


@dataclass(frozen=True, kw_only=True)
class Done:
    """One thing done with a picture: accept, discard, restore, deliver or purge. A function's name is the clock's."""

    decision: str
    reviewer_id: str
    collection_id: str | None
    reason: str
    at: datetime


HISTORY = text("""
SELECT decision, reviewer_id, collection_id, reason, at FROM generator_review WHERE artifact_id = :id ORDER BY id
""")


def history(tx: Connection, artifact_id: str) -> list[Done]:
    """All that was done with a picture since it was rendered, oldest first; also once it was purged."""
    return [Done(**row._mapping) for row in tx.execute(HISTORY, {"id": artifact_id})]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which pictures: where they stand (`undecided`, `accepted`, `discarded`, `delivered`: a discarded one only while
    it can be restored), whose (None: everybody's), and of which job, model, workflow, collection, tag and time."""

    standing: str = "undecided"
    user_id: str | None = None
    job_id: str | None = None
    model: str | None = None
    workflow_id: str | None = None
    collection_id: str | None = None
    tag: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A picture with what a curator judges it by."""

    picture: Kept
    made: Mapping[str, Any]


STANDINGS: Mapping[str, str] = {
    "undecided": "a.decision IS NULL",
    "accepted": "a.decision = 'accept'",
    "discarded": "a.decision = 'discard' AND a.purged_at IS NULL",
    "delivered": "a.decision = 'deliver' AND a.purged_at IS NULL",
}
#: What a curator judges a picture by, from its job's row.
MADE = ("prompt", "negative_prompt", "workflow_id", "workflow_version", "model", "loras", "seed", "parameters", "tags")
_PICTURE = ", ".join(f"a.{name}" for name in COLUMNS.split(", "))
_MADE = ", ".join(f"job.{name}" for name in MADE)
# A filter that is not asked for is not in the statement, so that each is planned for the index it has.
_FILTERS: Mapping[str, str] = {
    "user_id": "a.user_id = :user_id",
    "job_id": "a.job_id = :job_id",
    "model": "job.model = :model",
    "workflow_id": "job.workflow_id = :workflow_id",
    "collection_id": "coalesce(a.collection_id, job.collection_id) = :collection_id",
    "tag": "jsonb_exists(job.tags, :tag)",
    "since": "a.created_at >= :since",
    "until": "a.created_at < :until",
}


def find(tx: Connection, wanted: Wanted, *, after: tuple[datetime, str] | None, limit: int) -> list[Waiting]:
    """Such pictures, oldest first, from just above `after` (a creation time and an id)."""
    asked = {name: value for name, value in vars(wanted).items() if name in _FILTERS and value is not None}
    where = [STANDINGS[wanted.standing], *(_FILTERS[name] for name in asked)]
    if after:
        where.append("(a.created_at, a.id) > (:after_at, :after_id)")
        asked |= {"after_at": after[0], "after_id": after[1]}
    found = text(f"""
        SELECT {_PICTURE}, {_MADE}
        FROM generator_artifact AS a JOIN generator_job AS job ON job.id = a.job_id
        WHERE {" AND ".join(where)} ORDER BY a.created_at, a.id LIMIT :limit
    """)  # noqa: S608  every part is a constant of this module
    return [_waiting(dict(row._mapping)) for row in tx.execute(found, asked | {"limit": limit})]


def _waiting(row: dict[str, Any]) -> Waiting:
    picture = Kept(**{name: row[name] for name in COLUMNS.split(", ")})
    return Waiting(picture=picture, made={name: row[name] for name in MADE} | {"seed": str(row["seed"])})
