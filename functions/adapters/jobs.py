"""Jobs, kept in Postgres. The rows guard themselves: no illegal move gets in, and every move leaves its history."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from functions.domain.job import Job, State

COLUMNS = """id, user_id, role, pool, state, attempt, worker, cause, detail, prompt, negative_prompt, workflow_id,
    workflow_version, workflow_sha256, model, loras, seed, parameters, images, credits, boost, price_version,
    quote_id, payer, token_id, tags, collection_id, review_required, due_ms, run_at, submitted_at, changed_at, made"""

ADD = text("""
INSERT INTO generator_job (id, user_id, role, pool, state, attempt, prompt, negative_prompt, workflow_id,
    workflow_version, workflow_sha256, model, loras, seed, parameters, images, credits, boost, price_version,
    quote_id, payer, token_id, tags, collection_id, review_required, due_ms, submitted_at, changed_at)
VALUES (:id, :user_id, :role, :pool, :state, :attempt, :prompt, :negative_prompt, :workflow_id,
    :workflow_version, :workflow_sha256, :model, CAST(:loras AS jsonb), :seed, CAST(:parameters AS jsonb), :images,
    :credits, :boost, :price_version, :quote_id, :payer, :token_id, CAST(:tags AS jsonb), :collection_id,
    :review_required, :due_ms, :submitted_at, :changed_at)
ON CONFLICT (id) DO NOTHING
""")


def add(tx: Connection, job: Job) -> bool:
    """Keep a new job; False when a job of this id is there already, which then stays as it is."""
    row = vars(job) | {
        "loras": json.dumps([dict(lora) for lora in job.loras]),
        "parameters": json.dumps(dict(job.parameters)),
        "tags": json.dumps(job.tags),
    }
    return tx.execute(ADD, row).rowcount == 1


LOCKED = text(f"SELECT {COLUMNS} FROM generator_job WHERE id = :id FOR UPDATE")  # noqa: S608


def locked(tx: Connection, job_id: str) -> Job | None:
    """The job, held for this transaction: whoever else would move it waits."""
    row = tx.execute(LOCKED, {"id": job_id}).one_or_none()
    return None if row is None else _job(row)


GET = text(f"SELECT {COLUMNS} FROM generator_job WHERE id = :id")  # noqa: S608


def get(tx: Connection, job_id: str) -> Job | None:
    """The job as it stands."""
    row = tx.execute(GET, {"id": job_id}).one_or_none()
    return None if row is None else _job(row)


SAVE = text("""
UPDATE generator_job
SET state = :state, attempt = :attempt, worker = :worker, cause = :cause, detail = :detail, run_at = :run_at,
    due_ms = :due_ms, changed_at = :changed_at, made = CAST(:made AS jsonb)
WHERE id = :id
""")


def save(tx: Connection, job: Job) -> None:
    """Keep where the job now stands. The caller holds it (`locked`); the row's own guard refuses an illegal move."""
    tx.execute(SAVE, vars(job) | {"made": None if job.made is None else json.dumps(dict(job.made))})


OF_USER = text(f"""
SELECT {COLUMNS} FROM generator_job
WHERE user_id = :user_id AND (CAST(:before_at AS timestamptz) IS NULL OR (submitted_at, id) < (:before_at, :before_id))
  AND (CAST(:state AS text) IS NULL OR state = :state)
ORDER BY submitted_at DESC, id DESC
LIMIT :limit
""")  # noqa: S608


def of_user(
    tx: Connection, user_id: str, *, state: State | None, before: tuple[datetime, str] | None, limit: int
) -> list[Job]:
    """A user's jobs, newest first, from just below `before` (a submission time and an id)."""
    before_at, before_id = before or (None, None)
    rows = tx.execute(
        OF_USER,
        {"user_id": user_id, "state": state, "before_at": before_at, "before_id": before_id, "limit": limit},
    )
    return [_job(row) for row in rows]


LIVE = text(f"""
SELECT {COLUMNS} FROM generator_job
WHERE state IN ('queued', 'dispatching', 'in_progress') AND id > :after
ORDER BY id LIMIT :limit
""")  # noqa: S608


def live(tx: Connection, *, after: str, limit: int) -> list[Job]:
    """Jobs that Redis must know of, in id order from just above `after`: one page of the few unfinished ones."""
    return [_job(row) for row in tx.execute(LIVE, {"after": after, "limit": limit})]


@dataclass(frozen=True, kw_only=True)
class Transition:
    """One row of a job's history; `from_state` is None where it begins."""

    from_state: State | None
    to_state: State
    attempt: int
    cause: str | None
    worker: str | None
    at: datetime


HISTORY = text("""
SELECT from_state, to_state, attempt, cause, worker, at FROM generator_job_transition WHERE job_id = :id ORDER BY id
""")


def history(tx: Connection, job_id: str) -> list[Transition]:
    """Every move of the job, oldest first."""
    return [
        Transition(
            from_state=State(row.from_state) if row.from_state else None,
            to_state=State(row.to_state),
            attempt=row.attempt,
            cause=row.cause,
            worker=row.worker,
            at=row.at,
        )
        for row in tx.execute(HISTORY, {"id": job_id})
    ]


def _job(row: Row[Any]) -> Job:
    values = dict(row._mapping)
    loras: Sequence[dict[str, Any]] = values["loras"]
    return Job(
        **values
        | {
            "state": State(values["state"]),
            "seed": int(values["seed"]),
            "loras": tuple(loras),
            "tags": tuple(values["tags"]),
        }
    )
