"""Finished pictures: the objects in S3, and the rows that say whose they are and what became of them."""

from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from functions.domain.event import Artifact
from functions.domain.request import ReviewDecision


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One picture as Postgres keeps it; `decision` is None until a curator has decided."""

    id: str
    job_id: str
    index: int
    object_key: str
    sha256: str
    size_bytes: int
    content_type: str
    width_px: int
    height_px: int
    thumbnail_key: str
    decision: str | None
    collection_id: str | None
    collection_key: str | None
    created_at: datetime
    decided_at: datetime | None


COLUMNS = ", ".join(field.name for field in fields(Kept))


def artifact_id(job_id: str, index: int) -> str:
    """A picture's id: its job and its number, so that a report told twice names the same pictures."""
    return f"{job_id}-{index:02d}"


KEEP = text("""
INSERT INTO generator_artifact (id, job_id, index, attempt, object_key, sha256, size_bytes, content_type, width_px,
    height_px, thumbnail_key, thumbnail_sha256, created_at)
VALUES (:id, :job_id, :index, :attempt, :key, :sha256, :size_bytes, :content_type, :width_px,
    :height_px, :thumbnail_key, :thumbnail_sha256, :created_at)
""")


def keep(tx: Connection, job_id: str, attempt: int, artifacts: tuple[Artifact, ...], *, at: datetime) -> None:
    """Keep what an attempt produced."""
    rows = [
        asdict(a) | {"id": artifact_id(job_id, a.index), "job_id": job_id, "attempt": attempt, "created_at": at}
        for a in artifacts
    ]
    tx.execute(KEEP, rows)


GET = text(f"SELECT {COLUMNS} FROM generator_artifact WHERE id = :id")  # noqa: S608


def get(tx: Connection, id: str) -> Kept | None:
    """One picture."""
    row = tx.execute(GET, {"id": id}).one_or_none()
    return None if row is None else _kept(row)


OF_JOBS = text(f"""
SELECT {COLUMNS} FROM generator_artifact WHERE job_id = ANY(:job_ids) ORDER BY job_id, index
""")  # noqa: S608


def of_jobs(tx: Connection, job_ids: list[str]) -> list[Kept]:
    """The pictures of these jobs."""
    return [_kept(row) for row in tx.execute(OF_JOBS, {"job_ids": job_ids})]


DECIDE = text("""
WITH decided AS (
    UPDATE generator_artifact
    SET decision = :decision, collection_id = :collection_id, collection_key = :collection_key, decided_at = :at
    WHERE id = :id AND decision IS NULL
    RETURNING id, job_id
)
INSERT INTO generator_review (artifact_id, job_id, reviewer_id, decision, collection_id, reason, at)
SELECT id, job_id, :reviewer_id, :decision, :collection_id, :reason, :at FROM decided
""")


def decide(
    tx: Connection,
    decision: ReviewDecision,
    *,
    reviewer_id: str,
    collection_id: str | None,
    collection_key: str | None,
    at: datetime,
) -> bool:
    """Keep a curator's decision and who made it; False when the picture was decided before."""
    values = {
        "id": decision.artifact_id,
        "decision": decision.decision,
        "collection_id": collection_id,
        "collection_key": collection_key,
        "reviewer_id": reviewer_id,
        "reason": decision.reason,
        "at": at,
    }
    return tx.execute(DECIDE, values).rowcount == 1


UNDECIDED = text("SELECT count(*) FROM generator_artifact WHERE job_id = :job_id AND decision IS NULL")


def undecided(tx: Connection, job_id: str) -> int:
    """How many of a job's pictures still wait for a decision."""
    return int(tx.execute(UNDECIDED, {"job_id": job_id}).scalar_one())


def _kept(row: Row[Any]) -> Kept:
    return Kept(**row._mapping)
