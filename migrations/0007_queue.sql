-- The queue's order, what operators have ordered it to do, and how far sweep has compared it with Redis.

-- Where a job's place comes from, in unix ms, once it has one (functions/domain/place.py): start_ms - head start is
-- due_ms, and the user's next job of the pool starts at finish_ms. cost_ms: what it is expected to take of one GPU.
ALTER TABLE generator_job ADD COLUMN start_ms bigint, ADD COLUMN finish_ms bigint, ADD COLUMN cost_ms bigint,
    ADD CHECK (start_ms < finish_ms), ADD CHECK (cost_ms > 0),
    ADD CHECK (num_nulls(start_ms, finish_ms, cost_ms) IN (0, 3));

-- The last finish of a user's live jobs in a pool, found in one look.
CREATE INDEX generator_job_finish ON generator_job (pool, user_id, finish_ms)
    WHERE state IN ('queued', 'dispatching', 'in_progress');
-- The live jobs of a pool, page by page.
CREATE INDEX generator_job_live_of_pool ON generator_job (pool, id)
    WHERE state IN ('queued', 'dispatching', 'in_progress');

-- A pool that nothing may be claimed from: `draining` also takes no new jobs. No row: it works.
CREATE TABLE generator_pool_control (
    pool   text        PRIMARY KEY CHECK (pool ~ '^[A-Za-z0-9_.-]+$'),
    mode   text        NOT NULL CHECK (mode IN ('paused', 'draining')),
    reason text        NOT NULL,
    by     text        NOT NULL,
    at     timestamptz NOT NULL DEFAULT now()
);

-- A user whose waiting jobs are held, and who may submit none. No row: like everybody.
CREATE TABLE generator_user_block (
    user_id text        PRIMARY KEY CHECK (length(user_id) BETWEEN 1 AND 128),
    reason  text        NOT NULL,
    by      text        NOT NULL,
    at      timestamptz NOT NULL DEFAULT now()
);

-- How far sweep has compared a pool with Redis, which keeps the same `number`: where the two differ, Redis was emptied,
-- replaced or set back, and everything is compared. Otherwise only what moved after `from_move`, which is left behind
-- `mark_move` for a while, because a move is numbered as it is made and seen as it is committed.
CREATE TABLE queue_bookmark (
    pool        text        PRIMARY KEY,
    number      bigint      NOT NULL DEFAULT 0,
    from_move   bigint      NOT NULL DEFAULT 0,
    mark_move   bigint      NOT NULL DEFAULT 0,
    marked_at   timestamptz NOT NULL DEFAULT now(),
    compared_at timestamptz,                           -- when everything was, the last time
    CHECK (from_move <= mark_move)
);

GRANT UPDATE (start_ms, finish_ms, cost_ms) ON generator_job TO generator_dispatch;
GRANT SELECT (id, version, document) ON generator_workflow TO generator_dispatch;
GRANT SELECT ON generator_pool_control, generator_user_block TO generator_submit, generator_sweep, generator_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON generator_pool_control, generator_user_block
    TO generator_operator, generator_api;
GRANT SELECT (id, pool, user_id, state) ON generator_job TO generator_operator;
GRANT SELECT (id, job_id) ON generator_job_transition TO generator_sweep;
GRANT SELECT, INSERT, UPDATE ON queue_bookmark TO generator_sweep;
