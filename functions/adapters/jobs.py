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
    quote_id, payer, token_id, tags, collection_id, review_required, due_ms, start_ms, finish_ms, cost_ms, run_at,
    wait_p50_ms, wait_p90_ms, wait_raw_ms, degraded, submitted_at, changed_at, made"""

ADD = text("""
INSERT INTO generator_job (id, user_id, role, pool, state, attempt, prompt, negative_prompt, workflow_id,
    workflow_version, workflow_sha256, model, loras, seed, parameters, images, credits, boost, price_version,
    quote_id, payer, token_id, tags, collection_id, review_required, due_ms, wait_p50_ms, wait_p90_ms, wait_raw_ms,
    degraded, submitted_at, changed_at)
VALUES (:id, :user_id, :role, :pool, :state, :attempt, :prompt, :negative_prompt, :workflow_id,
    :workflow_version, :workflow_sha256, :model, CAST(:loras AS jsonb), :seed, CAST(:parameters AS jsonb), :images,
    :credits, :boost, :price_version, :quote_id, :payer, :token_id, CAST(:tags AS jsonb), :collection_id,
    :review_required, :due_ms, :wait_p50_ms, :wait_p90_ms, :wait_raw_ms, CAST(:degraded AS jsonb), :submitted_at,
    :changed_at)
ON CONFLICT (id) DO NOTHING
""")


def add(tx: Connection, job: Job) -> bool:
    """Keep a new job; False when a job of this id is there already, which then stays as it is."""
    row = vars(job) | {
        "loras": json.dumps([dict(lora) for lora in job.loras]),
        "parameters": json.dumps(dict(job.parameters)),
        "tags": json.dumps(job.tags),
        "degraded": json.dumps({name: dict(less) for name, less in job.degraded.items()}),
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


IN_LINE = text("SELECT pg_advisory_xact_lock(hashtextextended(:user_id || chr(10) || :pool, 0))")
BEHIND = text("""
SELECT max(finish_ms) FROM generator_job
WHERE pool = :pool AND user_id = :user_id AND state IN ('queued', 'dispatching', 'in_progress')
""")


def behind_ms(tx: Connection, pool: str, user_id: str) -> int | None:
    """Where this user's next job of the pool starts, unix ms: the last finish of its live ones; None when it has none.
    Until this transaction ends, whoever else asks for this user and pool waits."""
    tx.execute(IN_LINE, {"pool": pool, "user_id": user_id})
    behind: int | None = tx.execute(BEHIND, {"pool": pool, "user_id": user_id}).scalar_one()
    return behind


ENQUEUE = text("""
UPDATE generator_job
SET state = :state, start_ms = :start_ms, finish_ms = :finish_ms, cost_ms = :cost_ms, due_ms = :due_ms,
    changed_at = :changed_at
WHERE id = :id
""")


def enqueue(tx: Connection, job: Job) -> None:
    """Keep that the job waits now, and its place. The caller holds it (`locked`)."""
    tx.execute(ENQUEUE, vars(job))


LIVE = text(f"""
SELECT {COLUMNS} FROM generator_job
WHERE pool = :pool AND state IN ('queued', 'dispatching', 'in_progress') AND id > :after
ORDER BY id LIMIT :limit
""")  # noqa: S608


def live(tx: Connection, pool: str, *, after: str, limit: int) -> list[Job]:
    """Jobs of the pool that Redis must know of, in id order from just above `after`."""
    return [_job(row) for row in tx.execute(LIVE, {"pool": pool, "after": after, "limit": limit})]


MOVED = text(f"""
SELECT {COLUMNS} FROM generator_job
WHERE pool = :pool AND id > :after AND id IN (SELECT job_id FROM generator_job_transition WHERE id > :from_move)
ORDER BY id LIMIT :limit
""")  # noqa: S608


def moved(tx: Connection, pool: str, from_move: int, *, after: str, limit: int) -> list[Job]:
    """Jobs of the pool that have moved since this move, in id order from just above `after`."""
    span = {"pool": pool, "from_move": from_move, "after": after, "limit": limit}
    return [_job(row) for row in tx.execute(MOVED, span)]


LIVE_POOLS = text("""
WITH RECURSIVE found (pool) AS (
    SELECT min(pool) FROM generator_job WHERE state IN ('queued', 'dispatching', 'in_progress')
    UNION ALL
    SELECT (SELECT min(pool) FROM generator_job
            WHERE state IN ('queued', 'dispatching', 'in_progress') AND pool > found.pool)
    FROM found WHERE pool IS NOT NULL
)
SELECT pool FROM found WHERE pool IS NOT NULL
""")


def live_pools(tx: Connection) -> list[str]:
    """The pools that have live jobs, by one look at an index for each."""
    return list(tx.execute(LIVE_POOLS).scalars())


OF_IDS = text(f"SELECT {COLUMNS} FROM generator_job WHERE id = ANY(CAST(:ids AS text[]))")  # noqa: S608


def of_ids(tx: Connection, ids: Sequence[str]) -> list[Job]:
    """These jobs, those of them that there are."""
    return [_job(row) for row in tx.execute(OF_IDS, {"ids": list(ids)})]


WAITING_OF = text("""
SELECT pool, id FROM generator_job
WHERE user_id = :user_id AND state = 'queued' AND pool = ANY(CAST(:pools AS text[]))
""")


def waiting_of(tx: Connection, user_id: str, pools: Sequence[str]) -> dict[str, list[str]]:
    """The ids of this user's waiting jobs, by pool; a pool without one is left out."""
    found: dict[str, list[str]] = {}
    for pool, job_id in tx.execute(WAITING_OF, {"user_id": user_id, "pools": list(pools)}):
        found.setdefault(pool, []).append(job_id)
    return found


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
