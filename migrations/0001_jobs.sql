-- Jobs, their history, what they run and what they leave behind.
--
-- Run by the schema's owner. The functions connect as members of generator_app, which may read and write what they
-- need and nothing else; a role that cannot log in, so that an installation gives its own login to it.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'generator_app') THEN
        CREATE ROLE generator_app NOLOGIN;
    END IF;
END
$$;

CREATE TABLE generator_workflow (
    id          text        NOT NULL CHECK (id ~ '^[a-z0-9][a-z0-9_-]{0,63}$'),
    version     text        NOT NULL CHECK (version ~ '^[0-9]+\.[0-9]+\.[0-9]+$'),
    title       text        NOT NULL,
    sha256      text        NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    object_key  text        NOT NULL,                 -- in the workflows bucket
    document    jsonb       NOT NULL,                 -- the same bytes, for checking requests without a fetch
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, version)
);

-- Models and LoRAs that may be named in a request. object_key is NULL for a file that ComfyUI lists itself and that is
-- used where it lies; sha256 is NULL until somebody has read the file once.
CREATE TABLE generator_model (
    kind        text        NOT NULL CHECK (kind IN ('checkpoints', 'loras', 'vae')),
    name        text        NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    object_key  text,                                 -- in the models bucket
    sha256      text        CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    size_bytes  bigint      CHECK (size_bytes >= 0),
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, name)
);

CREATE TABLE generator_job (
    id               text          PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$'),
    user_id          text          NOT NULL CHECK (length(user_id) BETWEEN 1 AND 128),
    role             text          NOT NULL,
    pool             text          NOT NULL,
    state            text          NOT NULL CHECK (state IN ('submitted', 'debited', 'queued', 'dispatching',
                                       'in_progress', 'awaiting_review', 'completed', 'failed', 'cancelled')),
    attempt          integer       NOT NULL DEFAULT 1 CHECK (attempt >= 1),
    worker           text,
    cause            text,
    detail           text,
    prompt           text          NOT NULL CHECK (length(prompt) BETWEEN 1 AND 4000),
    negative_prompt  text          NOT NULL CHECK (length(negative_prompt) <= 4000),
    workflow_id      text          NOT NULL,
    workflow_version text          NOT NULL,
    workflow_sha256  text          NOT NULL,
    model            text          NOT NULL,
    loras            jsonb         NOT NULL DEFAULT '[]',
    seed             numeric(20,0) NOT NULL CHECK (seed >= 0 AND seed < 18446744073709551616),
    parameters       jsonb         NOT NULL,
    images           integer       NOT NULL CHECK (images >= 1),
    credits          bigint        NOT NULL CHECK (credits >= 0),
    boost            bigint        NOT NULL DEFAULT 0 CHECK (boost >= 0),
    tags             jsonb         NOT NULL DEFAULT '[]',
    collection_id    text,
    due_ms           bigint        NOT NULL,
    run_at           timestamptz,
    submitted_at     timestamptz   NOT NULL,
    changed_at       timestamptz   NOT NULL,
    FOREIGN KEY (workflow_id, workflow_version) REFERENCES generator_workflow (id, version)
);

-- Finished jobs are many and unfinished ones few: what walks by the clock reads only the few.
CREATE INDEX generator_job_live ON generator_job (state, changed_at)
    WHERE state IN ('submitted', 'debited', 'queued', 'dispatching', 'in_progress');
CREATE INDEX generator_job_of_user ON generator_job (user_id, submitted_at DESC, id DESC);

CREATE TABLE generator_job_transition (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id      text        NOT NULL REFERENCES generator_job (id),
    from_state  text,
    to_state    text        NOT NULL,
    attempt     integer     NOT NULL,
    cause       text,
    worker      text,
    at          timestamptz NOT NULL
);
CREATE INDEX generator_job_transition_of_job ON generator_job_transition (job_id, id);

-- The state machine. The same table stands in functions/domain/job.py; a test holds the two together.
CREATE FUNCTION generator_job_may_move(was text, becomes text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE was
    WHEN 'submitted'       THEN becomes IN ('debited', 'failed', 'cancelled')
    WHEN 'debited'         THEN becomes IN ('queued', 'failed', 'cancelled')
    WHEN 'queued'          THEN becomes IN ('dispatching', 'failed', 'cancelled')
    WHEN 'dispatching'     THEN becomes IN ('in_progress', 'queued', 'failed', 'cancelled')
    WHEN 'in_progress'     THEN becomes IN ('awaiting_review', 'queued', 'failed', 'cancelled')
    WHEN 'awaiting_review' THEN becomes IN ('completed', 'failed', 'cancelled')
    ELSE false
END;

CREATE FUNCTION generator_job_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'submitted' OR NEW.attempt <> 1 THEN
            RAISE EXCEPTION 'job %: a job begins as submitted, attempt 1', NEW.id
                USING ERRCODE = 'check_violation', CONSTRAINT = 'generator_job_move';
        END IF;
        RETURN NEW;
    END IF;
    IF NEW.state = OLD.state THEN
        IF NEW.attempt <> OLD.attempt OR NEW.worker IS DISTINCT FROM OLD.worker THEN
            RAISE EXCEPTION 'job %: attempt and worker change only with the state', NEW.id
                USING ERRCODE = 'check_violation', CONSTRAINT = 'generator_job_move';
        END IF;
    ELSIF NOT generator_job_may_move(OLD.state, NEW.state) THEN
        RAISE EXCEPTION 'job %: % -> %', NEW.id, OLD.state, NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'generator_job_move';
    ELSIF NEW.attempt <> OLD.attempt
          AND NOT (NEW.state = 'queued' AND OLD.state <> 'debited' AND NEW.attempt = OLD.attempt + 1) THEN
        RAISE EXCEPTION 'job %: attempt % -> % on %', NEW.id, OLD.attempt, NEW.attempt, NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'generator_job_move';
    END IF;
    RETURN NEW;
END
$$;

-- Every move leaves one row, whoever makes it and however; there is no other way to write one, so history is what was.
CREATE FUNCTION generator_job_remember() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO generator_job_transition (job_id, to_state, attempt, cause, worker, at)
        VALUES (NEW.id, NEW.state, NEW.attempt, NEW.cause, NEW.worker, NEW.changed_at);
    ELSIF NEW.state <> OLD.state THEN
        INSERT INTO generator_job_transition (job_id, from_state, to_state, attempt, cause, worker, at)
        VALUES (NEW.id, OLD.state, NEW.state, NEW.attempt, NEW.cause, coalesce(NEW.worker, OLD.worker), NEW.changed_at);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON generator_job
    FOR EACH ROW EXECUTE FUNCTION generator_job_guard();
CREATE TRIGGER remember AFTER INSERT OR UPDATE ON generator_job
    FOR EACH ROW EXECUTE FUNCTION generator_job_remember();

CREATE TABLE generator_artifact (
    id               text        PRIMARY KEY,          -- job id, a dash, the picture's number
    job_id           text        NOT NULL REFERENCES generator_job (id),
    index            integer     NOT NULL CHECK (index >= 0),
    attempt          integer     NOT NULL,
    object_key       text        NOT NULL UNIQUE,      -- in the outputs bucket
    sha256           text        NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    size_bytes       bigint      NOT NULL CHECK (size_bytes > 0),
    content_type     text        NOT NULL,
    width_px         integer     NOT NULL CHECK (width_px > 0),
    height_px        integer     NOT NULL CHECK (height_px > 0),
    thumbnail_key    text        NOT NULL,
    thumbnail_sha256 text        NOT NULL CHECK (thumbnail_sha256 ~ '^[0-9a-f]{64}$'),
    decision         text        CHECK (decision IN ('accept', 'discard')),
    collection_id    text,
    collection_key   text,                             -- in the collections bucket, once accepted
    created_at       timestamptz NOT NULL,
    decided_at       timestamptz,
    UNIQUE (job_id, index),
    CHECK ((decision IS NULL) = (decided_at IS NULL)),
    CHECK (decision IS DISTINCT FROM 'accept' OR (collection_id IS NOT NULL AND collection_key IS NOT NULL))
);

-- Who decided what, when and why; rows are only added.
CREATE TABLE generator_review (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    artifact_id   text        NOT NULL REFERENCES generator_artifact (id),
    job_id        text        NOT NULL REFERENCES generator_job (id),
    reviewer_id   text        NOT NULL,
    decision      text        NOT NULL CHECK (decision IN ('accept', 'discard')),
    collection_id text,
    reason        text        NOT NULL DEFAULT '',
    at            timestamptz NOT NULL
);
CREATE INDEX generator_review_of_job ON generator_review (job_id);

GRANT SELECT, INSERT, UPDATE ON generator_job, generator_artifact, generator_model TO generator_app;
GRANT SELECT, INSERT ON generator_workflow, generator_review TO generator_app;
GRANT SELECT ON generator_job_transition TO generator_app;
