"""complete: what a runner reports is kept, tried again, or given up and refunded.

hears   render.succeeded
        render.failed
says    job.awaiting_review   the pictures are kept; a curator decides
        job.completed         right after it, where no curator is asked
        job.queued            another try, after a backoff; where memory ran out, in the next bigger pool there is
        job.failed            no try is left, or none can help
        credits.transferred   the refund: of all, or of the pictures that a batch did not produce
"""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from functions.adapters import artifacts, jobs, ledger, postgres, queue, spill
from functions.adapters.queue import Ticket
from functions.config import config
from functions.domain import transfer
from functions.domain.errors import Failure
from functions.domain.event import (
    Event,
    JobAwaitingReview,
    JobCompleted,
    JobFailed,
    JobQueued,
    RenderFailed,
    RenderSucceeded,
)
from functions.domain.job import Job, State
from functions.domain.transfer import Kind

SOURCE = "/functions/complete"


def complete(tx: Connection, event: RenderSucceeded | RenderFailed) -> Sequence[Event]:
    """Act on a runner's last word; the word of a runner that no longer holds the job counts for nothing."""
    job = jobs.locked(tx, event.job_id)
    if job is None or not job.held_by(event.worker, event.attempt):
        return ()
    if isinstance(event, RenderSucceeded):
        return _keep(tx, job, event)
    if config().retry_policy.allows(event.kind, attempt=job.attempt):
        return _retry(tx, job, event)
    return _give_up(tx, job, event)


def _keep(tx: Connection, job: Job, event: RenderSucceeded) -> Sequence[Event]:
    now = datetime.now(UTC)
    artifacts.keep(tx, job, event.artifacts, at=now)
    made = {
        "comfyui_version": event.comfyui_version,
        "graph_sha256": event.graph_sha256,
        "files": [vars(file) for file in event.files],
    }
    kept = job.to(State.AWAITING_REVIEW, changed_at=now, made=made)
    jobs.save(tx, kept)
    postgres.after_commit(tx, lambda: queue.remove(job.pool, job.id))
    told: list[Event] = [JobAwaitingReview(**kept.told(was=job.state), artifacts=event.artifacts)]
    short = transfer.missing(job, len(event.artifacts), authorised_by=SOURCE, instruction=event.id)
    refund = ledger.post(tx, short) if short else None
    told += [refund] if refund else []
    if not job.review_required:
        done = kept.to(State.COMPLETED, cause="delivered", changed_at=now)
        jobs.save(tx, done)
        told.append(JobCompleted(**done.told(was=kept.state)))
    return told


def _retry(tx: Connection, job: Job, event: RenderFailed) -> Sequence[Event]:
    now = datetime.now(UTC)
    wait_s = config().retry_policy.backoff_s(attempt=job.attempt, chance=random.random())  # noqa: S311
    run_at = now + timedelta(seconds=wait_s)
    again = job.to(
        State.QUEUED,
        cause=event.code,
        detail=event.detail,
        attempt=job.attempt + 1,
        worker=None,
        run_at=run_at,
        changed_at=now,
        pool=(spill.bigger(tx, job) if event.kind is Failure.OUT_OF_MEMORY else None) or job.pool,
    )
    jobs.save(tx, again)
    if again.pool != job.pool:
        spill.rehome(tx, job, again.pool)
        postgres.after_commit(tx, lambda: queue.remove(job.pool, job.id))
    postgres.after_commit(tx, lambda: queue.retry(again.pool, Ticket.of(again)))
    return [JobQueued(**again.told(was=job.state))]


def _give_up(tx: Connection, job: Job, event: RenderFailed) -> Sequence[Event]:
    failed = job.to(State.FAILED, cause=event.code, detail=event.detail, changed_at=datetime.now(UTC))
    jobs.save(tx, failed)
    back = transfer.refund(job, Kind.FAILED, authorised_by=SOURCE, instruction=event.id)
    refund = ledger.post(tx, back)
    record = {
        "user_id": job.user_id,
        "pool": job.pool,
        "attempts": job.attempt,
        "errors": [_error(move) for move in jobs.history(tx, job.id) if move.cause],
        "detail": event.detail,
    }
    postgres.after_commit(tx, lambda: queue.remove(job.pool, job.id))
    postgres.after_commit(tx, lambda: queue.bury(job.id, record))
    told: list[Event] = [JobFailed(**failed.told(was=job.state), detail=event.detail)]
    return [*told, refund] if refund else told


def _error(move: jobs.Transition) -> dict[str, Any]:
    """What went wrong with which attempt: a job on its way back into the queue counts its next one already."""
    failed = move.attempt - 1 if move.to_state is State.QUEUED else move.attempt
    return {"attempt": failed, "code": move.cause, "worker": move.worker, "at": move.at.isoformat()}
