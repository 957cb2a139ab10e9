"""Finished pictures: the rows that say whose they are, which object holds their bytes, and what became of them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from functions.domain.event import Artifact
from functions.domain.job import Job
from functions.domain.request import ReviewDecision


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One picture as Postgres keeps it; `decision` is None until a curator has decided.

    object_key, thumbnails (px -> key): in the outputs bucket, until it let go of them (released_at): purged, or moved
    to its collection.
    """

    id: str
    job_id: str
    user_id: str = ""
    index: int
    attempt: int = 1
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
    thumbnails: Mapping[str, str] = field(default_factory=dict)
    decisions: int = 0
    restored_at: datetime | None = None
    released_at: datetime | None = None
    purged_at: datetime | None = None


COLUMNS = ", ".join(column.name for column in fields(Kept))


def artifact_id(job_id: str, index: int) -> str:
    """A picture's id: its job and its number, so that a report told twice names the same pictures."""
    return f"{job_id}-{index:02d}"


# Where these bytes are stored already, the picture refers to that object; its own copy is a second one, born freed, so
# that retention deletes it. What is delivered keeps its own: its key was told to whoever fetches it.
KEEP = text("""
WITH held AS (
    INSERT INTO generator_object (key, sha256, size_bytes, thumbnails, thumbnail_bytes, shared, refs, created_at)
    VALUES (:key, :sha256, :size_bytes, CAST(:thumbnails AS jsonb), :thumbnail_bytes,
        NOT CAST(:delivered AS boolean), 1, :created_at)
    ON CONFLICT (sha256) WHERE shared AND refs > 0 AND missing_at IS NULL
    DO UPDATE SET refs = generator_object.refs + 1
    RETURNING key, thumbnails
), second AS (
    INSERT INTO generator_object (key, sha256, size_bytes, thumbnails, thumbnail_bytes, refs, created_at, freed_at)
    SELECT :key, :sha256, :size_bytes, CAST(:thumbnails AS jsonb), :thumbnail_bytes, 0, :created_at, :created_at
    FROM held WHERE held.key <> :key
)
INSERT INTO generator_artifact (id, job_id, user_id, index, attempt, object_key, sha256, size_bytes, content_type,
    width_px, height_px, thumbnail_key, thumbnail_sha256, thumbnails, created_at, decision, decided_at, decisions)
SELECT :id, :job_id, :user_id, :index, :attempt, held.key, :sha256, :size_bytes, :content_type,
    :width_px, :height_px, coalesce(held.thumbnails ->> '384', :thumbnail_key), :thumbnail_sha256, held.thumbnails,
    :created_at, :decision, CASE WHEN CAST(:delivered AS boolean) THEN CAST(:created_at AS timestamptz) END,
    CAST(CAST(:delivered AS boolean) AS integer)
FROM held
""")


def keep(tx: Connection, job: Job, artifacts: tuple[Artifact, ...], *, at: datetime) -> None:
    """Keep what an attempt produced; what nobody is to review is delivered at once."""
    rows = [
        asdict(a)
        | {
            "id": artifact_id(job.id, a.index),
            "job_id": job.id,
            "user_id": job.user_id,
            "attempt": job.attempt,
            "created_at": at,
            "delivered": not job.review_required,
            "decision": None if job.review_required else "deliver",
            "thumbnails": json.dumps({str(t.px): t.key for t in a.thumbnails} or {"384": a.thumbnail_key}),
            "thumbnail_bytes": sum(t.size_bytes for t in a.thumbnails),
        }
        for a in sorted(artifacts, key=lambda a: a.sha256)  # objects are locked in this order everywhere
    ]
    tx.execute(KEEP, rows)
    if not job.review_required:
        ids = [{"id": row["id"], "job_id": job.id, "at": at} for row in rows]
        tx.execute(DELIVERED, ids)


DELIVERED = text("""
INSERT INTO generator_review (artifact_id, job_id, reviewer_id, decision, at)
VALUES (:id, :job_id, '/functions/complete', 'deliver', :at)
""")


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
    SET decision = :decision, collection_id = :collection_id, collection_key = :collection_key, decided_at = :at,
        decisions = decisions + 1
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


RESTORE = text("""
WITH restored AS (
    UPDATE generator_artifact
    SET decision = NULL, decided_at = NULL, restored_at = :at, decisions = decisions + 1
    WHERE id = :id AND decision = 'discard' AND purged_at IS NULL
    RETURNING id, job_id
)
INSERT INTO generator_review (artifact_id, job_id, reviewer_id, decision, reason, at)
SELECT id, job_id, :reviewer_id, 'restore', :reason, :at FROM restored
""")


def restore(tx: Connection, id: str, *, reviewer_id: str, reason: str, at: datetime) -> bool:
    """Undo a discard, and keep who did; False when there is none, or its bytes were purged in the meantime."""
    values = {"id": id, "reviewer_id": reviewer_id, "reason": reason, "at": at}
    return tx.execute(RESTORE, values).rowcount == 1


UNDECIDED = text("SELECT count(*) FROM generator_artifact WHERE job_id = :job_id AND decision IS NULL")


def undecided(tx: Connection, job_id: str) -> int:
    """How many of a job's pictures still wait for a decision."""
    return int(tx.execute(UNDECIDED, {"job_id": job_id}).scalar_one())


def _kept(row: Row[Any]) -> Kept:
    return Kept(**row._mapping)
