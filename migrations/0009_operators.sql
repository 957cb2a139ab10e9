-- What operators see and do: jobs that no retry could help, a record of every act, and how long everything takes.

-- A job that was paid and failed. Its row is written by the job's own trigger, whoever failed it and however, so this is
-- the truth; the stream `generator:dead` tells the same and may be lost.
--
-- A letter is open until it is requeued or dropped. A requeue is another job, asked for anew with the same parameters and
-- seed on behalf of the same user: `<root>-r<serial>`, where `root` is the job that was asked for first and `serial` the
-- last number its line has come to. One that could not be paid has never run: the letter is open again then.
CREATE TABLE generator_dead_job (
    number      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- the order in which they came
    job_id      text        NOT NULL UNIQUE REFERENCES generator_job (id) ON DELETE CASCADE,
    root        text        NOT NULL,
    serial      integer     NOT NULL CHECK (serial >= 0),
    user_id     text        NOT NULL,
    role        text        NOT NULL,
    pool        text        NOT NULL,
    model       text        NOT NULL,
    workflow_id text        NOT NULL,
    credits     bigint      NOT NULL,
    code        text        NOT NULL,
    attempts    integer     NOT NULL CHECK (attempts >= 1),
    died_at     timestamptz NOT NULL,
    requeued_as text        UNIQUE,
    requeued_at timestamptz,
    requeued_by text,
    dropped_at  timestamptz,
    dropped_by  text,
    dropped_why text,
    CHECK ((requeued_as IS NULL) = (requeued_at IS NULL) AND (requeued_as IS NULL) = (requeued_by IS NULL)),
    CHECK ((dropped_at IS NULL) = (dropped_by IS NULL) AND (dropped_at IS NULL) = (dropped_why IS NULL)),
    CHECK (requeued_at IS NULL OR dropped_at IS NULL)
);
CREATE INDEX generator_dead_job_open ON generator_dead_job (number) WHERE requeued_at IS NULL AND dropped_at IS NULL;

CREATE FUNCTION generator_job_bury() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF OLD.state = 'submitted' THEN
        UPDATE generator_dead_job SET requeued_as = NULL, requeued_at = NULL, requeued_by = NULL
        WHERE requeued_as = NEW.id;
        RETURN NULL;
    END IF;
    INSERT INTO generator_dead_job
        (job_id, root, serial, user_id, role, pool, model, workflow_id, credits, code, attempts, died_at)
    SELECT NEW.id, coalesce(origin.root, NEW.id), coalesce(origin.serial, 0), NEW.user_id, NEW.role, NEW.pool, NEW.model,
           NEW.workflow_id, NEW.credits, coalesce(NEW.cause, 'unknown'), NEW.attempt, NEW.changed_at
    FROM (SELECT) AS one LEFT JOIN generator_dead_job AS origin ON origin.requeued_as = NEW.id;
    RETURN NULL;
END
$$;
CREATE TRIGGER bury AFTER UPDATE OF state ON generator_job
    FOR EACH ROW WHEN (NEW.state = 'failed' AND OLD.state <> 'failed') EXECUTE FUNCTION generator_job_bury();

INSERT INTO generator_dead_job (job_id, root, serial, user_id, role, pool, model, workflow_id, credits, code, attempts, died_at)
SELECT job.id, job.id, 0, job.user_id, job.role, job.pool, job.model, job.workflow_id, job.credits,
       coalesce(job.cause, 'unknown'), job.attempt, job.changed_at
FROM generator_job AS job
WHERE job.state = 'failed' AND EXISTS (
    SELECT FROM generator_job_transition AS move
    WHERE move.job_id = job.id AND move.to_state = 'failed' AND move.from_state <> 'submitted')
ORDER BY job.changed_at;

-- What went wrong with which attempt of a job. A move back into the queue counts the next attempt already, unless the
-- runner was told to stop, which costs none.
CREATE VIEW generator_job_error AS
SELECT failed.job_id, failed.number, failed.attempt, failed.code, report.data ->> 'kind' AS kind,
       report.data ->> 'detail' AS detail, failed.worker, failed.at
FROM (
    SELECT job_id, id AS number, cause AS code, worker, at,
           attempt - (to_state = 'queued' AND cause <> 'given_back')::integer AS attempt
    FROM generator_job_transition WHERE cause IS NOT NULL
) AS failed
LEFT JOIN outbox AS report ON report.source = '/functions/render'
      AND report.id = failed.job_id || ':render.failed:' || failed.attempt;

-- Who did what to what, when and why; rows are only added.
CREATE TABLE generator_operator_act (
    number  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT now(),
    by      text        NOT NULL CHECK (length(by) BETWEEN 1 AND 200),
    act     text        NOT NULL CHECK (act ~ '^[a-z_]{1,64}$'),
    subject text        NOT NULL CHECK (length(subject) BETWEEN 1 AND 200), -- a pool, a user, a job
    reason  text        NOT NULL DEFAULT '' CHECK (length(reason) <= 500)
);

-- How long every phase of a job took, in ms, by the move that ended it. wait is for a GPU, as in metric_phase; total is
-- from the asking to the pictures, retries and all.
CREATE INDEX generator_job_transition_sla ON generator_job_transition (at)
    WHERE to_state IN ('dispatching', 'awaiting_review');
CREATE VIEW generator_sla_phase AS
SELECT move.at, job.role AS tier, job.pool, job.tags, part.phase, part.ms
FROM generator_job_transition AS move
JOIN generator_job AS job ON job.id = move.job_id
LEFT JOIN LATERAL (
    SELECT before.at, before.to_state, before.cause FROM generator_job_transition AS before
    WHERE before.job_id = move.job_id AND before.id < move.id AND move.to_state = 'dispatching'
    ORDER BY before.id DESC LIMIT 1
) AS queued ON queued.to_state = 'queued' AND coalesce(queued.cause, 'given_back') = 'given_back'
LEFT JOIN outbox AS report ON move.to_state = 'awaiting_review' AND report.source = '/functions/render'
      AND report.id = move.job_id || ':render.succeeded:' || move.attempt
CROSS JOIN LATERAL (
    VALUES ('wait', greatest(0, extract(epoch FROM move.at - queued.at) * 1000)::bigint),
           ('prepare', (report.data ->> 'prepare_ms')::bigint),
           ('render', (report.data ->> 'render_ms')::bigint),
           ('upload', (report.data ->> 'upload_ms')::bigint),
           ('total', CASE WHEN move.to_state = 'awaiting_review'
                          THEN greatest(0, extract(epoch FROM move.at - job.submitted_at) * 1000)::bigint END)
) AS part (phase, ms)
WHERE move.to_state IN ('dispatching', 'awaiting_review') AND part.ms IS NOT NULL
  AND (part.phase <> 'wait' OR queued.at IS NOT NULL);

GRANT SELECT, UPDATE ON generator_dead_job TO generator_app;
GRANT SELECT ON generator_job_error, generator_sla_phase TO generator_app;
GRANT SELECT, INSERT ON generator_operator_act TO generator_app;

-- The operator sees what failed, and not what was asked. Asking for it anew is submit's work, so it takes generator_api.
GRANT SELECT, UPDATE (requeued_as, requeued_at, requeued_by, serial, dropped_at, dropped_by, dropped_why)
    ON generator_dead_job TO generator_operator, generator_api;
GRANT SELECT ON generator_job_error, generator_sla_phase TO generator_operator, generator_api;
GRANT SELECT, INSERT ON generator_operator_act TO generator_operator, generator_api;
