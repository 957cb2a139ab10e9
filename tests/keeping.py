"""Pictures as a runner leaves them, without a render: real objects and rows, of jobs that no runner serves."""

import hashlib
import os
import uuid
from datetime import UTC, datetime, timedelta

from making import a_job
from sqlalchemy import NullPool, create_engine, text

from functions.adapters import artifacts, jobs, outbox, postgres, storage
from functions.adapters.artifacts import Kept
from functions.complete import complete
from functions.config import config
from functions.domain import event
from functions.domain.event import Actor, Artifact, ReviewDecided, Thumbnail
from functions.domain.job import Job, State
from functions.domain.request import ReviewDecision
from functions.hear import Heard, hear


def a_rendered_job(*pictures: bytes, **fields: object) -> Job:
    """A job that is in progress, its pictures uploaded; `report` lets complete hear of them."""
    with postgres.transaction() as tx:
        found = tx.execute(text("SELECT id, version, sha256 FROM generator_workflow LIMIT 1")).one()
        workflow = {"workflow_id": found.id, "workflow_version": found.version, "workflow_sha256": found.sha256}
        now = datetime.now(UTC)
        plain = {"images": len(pictures), "user_id": f"u-{uuid.uuid4().hex[:8]}"}
        moments = {"submitted_at": now, "changed_at": now}
        job = a_job(**workflow | plain | moments | fields)
        jobs.add(tx, job)
        for state in (State.DEBITED, State.QUEUED, State.DISPATCHING, State.IN_PROGRESS):
            job = job.to(state, worker="w" if state in (State.DISPATCHING, State.IN_PROGRESS) else None)
            jobs.save(tx, job)
    for index, data in enumerate(pictures):
        made = an_artifact(job, index, data)
        storage.write_once(config().outputs_bucket, made.key, data, content_type="image/png")
        for small in made.thumbnails:
            storage.write_once(config().outputs_bucket, small.key, b"small " + data, content_type="image/webp")
    return job


def an_artifact(job: Job, index: int, data: bytes) -> Artifact:
    """What a runner would report of these bytes."""
    sha256 = hashlib.sha256(data).hexdigest()
    stem = f"generated/{job.id}/{job.attempt}/{index:02d}-{sha256[:16]}"
    small = hashlib.sha256(b"small " + data).hexdigest()
    names = {192: f"{stem}.thumbnail-192.webp", 384: f"{stem}.thumbnail.webp"}
    return Artifact(
        index=index,
        key=f"{stem}.png",
        sha256=sha256,
        size_bytes=len(data),
        content_type="image/png",
        width_px=64,
        height_px=64,
        thumbnail_key=names[384],
        thumbnail_sha256=small,
        thumbnails=tuple(
            Thumbnail(px=px, key=key, sha256=small, size_bytes=6 + len(data)) for px, key in names.items()
        ),
    )


def report(job: Job, *pictures: bytes) -> list[Kept]:
    """Let complete hear of the pictures; gives them as they are kept."""
    news = event.RenderSucceeded(
        job_id=job.id,
        attempt=job.attempt,
        worker="w",
        artifacts=tuple(an_artifact(job, index, data) for index, data in enumerate(pictures)),
        manifest_key=f"generated/{job.id}/{job.attempt}/manifest.json",
        prompt_id="p",
        comfyui_version="1",
        prepare_ms=1,
        render_ms=2,
        upload_ms=3,
    )
    with postgres.transaction() as tx:
        outbox.put(tx, "/functions/complete", complete(tx, news))
    return kept(job)


def kept(job: Job) -> list[Kept]:
    with postgres.transaction() as tx:
        return artifacts.of_jobs(tx, [job.id])


def pictures_of(*pictures: bytes, **fields: object) -> list[Kept]:
    """Pictures of a job of their own that wait for a decision."""
    return report(a_rendered_job(*pictures, **fields), *pictures)


def some_bytes() -> bytes:
    """Bytes that nobody else has."""
    return uuid.uuid4().bytes * 8


def decide(picture: Kept, decision: str, collection_id: str | None = None, *, reason: str = "") -> None:
    """As its owner decides, by event."""
    asked = ReviewDecision(
        artifact_id=picture.id,
        decision=decision,  # type: ignore[arg-type]
        collection_id=collection_id,
        reason=reason,
    )
    event = ReviewDecided.of(job_id=picture.job_id, actor=Actor(user_id=picture.user_id, role="CURATOR"), asked=asked)
    hear("review", Heard(source="/a/test", id=uuid.uuid4().hex, event=event))


def there(key: str) -> bool:
    return storage.size(config().outputs_bucket, key) is not None


def ago(**length: float) -> datetime:
    return datetime.now(UTC) - timedelta(**length)


def as_owner(statement: str, **values: object) -> None:
    """What no function may do: by the schema's owner."""
    owner = create_engine(os.environ["MIGRATIONS_DATABASE_URL"], poolclass=NullPool)
    with owner.begin() as tx:
        tx.execute(text(statement), values)


def backdate(table: str, column: str, id: str, at: datetime) -> None:
    """As if it had happened then."""
    as_owner(f"UPDATE {table} SET {column} = :at WHERE id = :id", at=at, id=id)
