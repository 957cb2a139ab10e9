-- What renders and waits have taught: a window of the latest values of each kind, and what they come to.
--
-- A reader takes a few rows by their key and never a history. Sweep alone writes, in the transaction that adds the same
-- moves to the totals (0006), so that each move teaches once, whoever dies in between.
--   pace      ms of rendering a unit of work takes (`work` in functions/domain/place.py)
--   overhead  ms a runner has a job beside the rendering: fetching, loading, storing
--   hold      ms a runner has a job in all
--   turn      ms between two claims while jobs wait, times the pool's GPUs: what a job costs the line, with all that lies
--             between two jobs of a GPU
--   start     ms until a pool with nothing waiting takes a job: what starting a GPU costs
--   slack     how long a wait was, divided by what the plain sum of work ahead had said
--   error     ms between the estimate given at submission (its p50) and the wait that came
--   covered   1 when the wait ended within the estimate (its p90), else 0
-- `class` narrows a kind down: a workflow, a workflow/model, a role; empty: all of the pool's.
CREATE TABLE generator_estimate (
    pool       text             NOT NULL,
    kind       text             NOT NULL
               CHECK (kind IN ('pace', 'overhead', 'hold', 'turn', 'start', 'slack', 'error', 'covered')),
    class      text             NOT NULL,
    latest     float8[]         NOT NULL CHECK (cardinality(latest) BETWEEN 1 AND 200), -- the newest last
    p50        double precision NOT NULL,
    p90        double precision NOT NULL CHECK (p90 >= p50),
    mean       double precision NOT NULL,
    seen       bigint           NOT NULL CHECK (seen >= 1),
    learned_at timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (pool, class, kind)
);

-- What was said at submission, to be said again when the request is, and to be compared with what came. raw: the plain
-- sum of the work ahead, 0 when there was none; all three null when no honest number could be given. degraded: what a
-- request that allowed it got less of, {"steps": {"asked": 28, "given": 14}}.
ALTER TABLE generator_job
    ADD COLUMN wait_p50_ms bigint,
    ADD COLUMN wait_p90_ms bigint,
    ADD COLUMN wait_raw_ms bigint,
    ADD COLUMN degraded    jsonb NOT NULL DEFAULT '{}',
    ADD CONSTRAINT generator_job_wait CHECK (
        num_nulls(wait_p50_ms, wait_p90_ms, wait_raw_ms) IN (0, 3)
        AND wait_p50_ms >= 0 AND wait_p90_ms >= wait_p50_ms AND wait_raw_ms >= 0);

-- What a render has to teach, by the move that ended it. A parameter the workflow does not have counts as the price's
-- reference.
CREATE VIEW generator_render_lesson AS
SELECT move.id AS number, job.pool, job.workflow_id, job.model,
       generator_job_work(job.parameters, job.images)
           * coalesce((workflow.document ->> 'complexity')::float8, 1) AS work,
       (report.data ->> 'render_ms')::float8 AS render_ms,
       (report.data ->> 'prepare_ms')::float8 + (report.data ->> 'upload_ms')::float8 AS overhead_ms
FROM generator_job_transition AS move
JOIN generator_job AS job ON job.id = move.job_id
JOIN generator_workflow AS workflow ON workflow.id = job.workflow_id AND workflow.version = job.workflow_version
JOIN outbox AS report ON report.source = '/functions/render'
     AND report.id = move.job_id || ':render.succeeded:' || move.attempt
WHERE move.to_state = 'awaiting_review';

-- What a wait has to teach, by the move that ended it: from the submission to the first claim, against what was said.
CREATE VIEW generator_wait_lesson AS
SELECT move.id AS number, job.pool, job.role, job.wait_p50_ms, job.wait_p90_ms, job.wait_raw_ms,
       greatest(0, extract(epoch FROM move.at - job.submitted_at) * 1000)::bigint AS waited_ms
FROM generator_job_transition AS move
JOIN generator_job AS job ON job.id = move.job_id
WHERE move.to_state = 'dispatching' AND move.attempt = 1 AND job.wait_p50_ms IS NOT NULL
  AND NOT EXISTS (SELECT FROM generator_job_transition AS earlier
                  WHERE earlier.job_id = move.job_id AND earlier.id < move.id AND earlier.to_state = 'dispatching');

-- What a claim has to teach: when it was, and since when its job had waited; null for a later attempt, which may have
-- waited for its moment.
CREATE VIEW generator_claim_lesson AS
SELECT move.id AS number, job.pool, move.at,
       CASE WHEN move.attempt = 1 THEN
           (SELECT max(queued.at) FROM generator_job_transition AS queued
            WHERE queued.job_id = move.job_id AND queued.id < move.id AND queued.to_state = 'queued')
       END AS queued_at
FROM generator_job_transition AS move
JOIN generator_job AS job ON job.id = move.job_id
WHERE move.to_state = 'dispatching';

-- How many jobs of a tier wait: counted up to a limit, by index alone.
CREATE INDEX generator_job_waiting_of_role ON generator_job (role) WHERE state = 'queued';

GRANT SELECT ON generator_estimate
    TO generator_app, generator_submit, generator_dispatch, generator_sweep, generator_metrics;
GRANT INSERT, UPDATE ON generator_estimate TO generator_app, generator_sweep;
GRANT SELECT ON generator_render_lesson, generator_wait_lesson, generator_claim_lesson TO generator_app, generator_sweep;

-- A job moves to another pool: the bigger one after it ran out of memory, or an idle one after a long wait.
GRANT SELECT ON generator_pool_control TO generator_complete;
GRANT SELECT (id, version, document) ON generator_workflow TO generator_complete, generator_sweep;
GRANT UPDATE (pool) ON generator_job TO generator_complete;
GRANT UPDATE (pool, changed_at) ON generator_job TO generator_sweep;
