-- Pictures to the end of their lives: what is stored once, who needs it, what became of it, and what may be forgotten.

-- A stored picture with its thumbnails. `refs` counts the artifacts that need the bytes: identical bytes are stored once
-- and shared. When the last reference goes the object is freed, in the transaction that lets go; its bytes are deleted
-- after that, and the row says when. A freed object is never taken up again, because its bytes may be gone already: the
-- same bytes come as another object, under the key their own job gave them. So is a copy that turns out to be a second
-- one: it is born freed.
CREATE TABLE generator_object (
    key             text        COLLATE "C" PRIMARY KEY,  -- in the outputs bucket; "C" is the order S3 lists in
    sha256          text        NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    size_bytes      bigint      NOT NULL CHECK (size_bytes > 0),
    thumbnails      jsonb       NOT NULL DEFAULT '{}',    -- px -> key; they go with the picture
    thumbnail_bytes bigint      NOT NULL DEFAULT 0,
    shared          boolean     NOT NULL DEFAULT true,    -- false: the key was told to the world, and stays its job's own
    refs            integer     NOT NULL CHECK (refs >= 0),
    created_at      timestamptz NOT NULL,
    freed_at        timestamptz,                          -- when nobody needed it any more
    deleted_at      timestamptz,                          -- when its bytes were deleted
    missing_at      timestamptz,                          -- when its bytes were found gone though somebody needs them
    CHECK ((refs = 0) = (freed_at IS NOT NULL)),
    CHECK (deleted_at IS NULL OR freed_at IS NOT NULL)
);

ALTER TABLE generator_artifact
    ADD COLUMN user_id     text,                          -- the job's, so that a user's pictures are found without it
    ADD COLUMN thumbnails  jsonb       NOT NULL DEFAULT '{}', -- px -> key, as its object has them
    ADD COLUMN decisions   integer     NOT NULL DEFAULT 0 CHECK (decisions >= 0), -- made so far; undone ones count
    ADD COLUMN restored_at timestamptz,                   -- when a discard was last undone
    ADD COLUMN released_at timestamptz,                   -- when it let go of its object
    ADD COLUMN purged_at   timestamptz;                   -- when its bytes were given up; the row stays

UPDATE generator_artifact AS a SET user_id = job.user_id, thumbnails = jsonb_build_object('384', a.thumbnail_key),
    decisions = (a.decision IS NOT NULL)::integer
FROM generator_job AS job WHERE job.id = a.job_id;
INSERT INTO generator_object (key, sha256, size_bytes, thumbnails, shared, refs, created_at)
SELECT object_key, sha256, size_bytes, thumbnails, row_number() OVER (PARTITION BY sha256 ORDER BY created_at, id) = 1, 1,
       created_at
FROM generator_artifact;

CREATE UNIQUE INDEX generator_object_once ON generator_object (sha256) WHERE shared AND refs > 0 AND missing_at IS NULL;
CREATE INDEX generator_object_freed ON generator_object (freed_at) WHERE freed_at IS NOT NULL AND deleted_at IS NULL;

ALTER TABLE generator_artifact
    ALTER COLUMN user_id SET NOT NULL,
    DROP CONSTRAINT generator_artifact_object_key_key,
    DROP CONSTRAINT generator_artifact_decision_check,
    ADD FOREIGN KEY (object_key) REFERENCES generator_object (key),
    ADD CHECK (decision IN ('accept', 'discard', 'deliver')),
    ADD CHECK (purged_at IS NULL OR (decision IN ('discard', 'deliver') AND released_at IS NOT NULL));
-- What waits for a curator, oldest first: everybody's, and one user's.
CREATE INDEX generator_artifact_undecided ON generator_artifact (created_at, id) WHERE decision IS NULL;
CREATE INDEX generator_artifact_undecided_of_user ON generator_artifact (user_id, created_at, id) WHERE decision IS NULL;
CREATE INDEX generator_artifact_of_user ON generator_artifact (user_id, created_at, id);
-- What retention walks, in the order it falls due.
CREATE INDEX generator_artifact_holding ON generator_artifact (decision, decided_at, id) WHERE released_at IS NULL;
CREATE INDEX generator_artifact_restored ON generator_artifact (restored_at, id)
    WHERE decision IS NULL AND restored_at IS NOT NULL;
CREATE INDEX generator_job_unreviewed ON generator_job (changed_at, id) WHERE state = 'awaiting_review';

CREATE FUNCTION generator_object_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'object %: freed at %, and never taken up again', OLD.key, OLD.freed_at
        USING ERRCODE = 'check_violation', CONSTRAINT = 'generator_object_freed';
END
$$;
CREATE TRIGGER guard BEFORE UPDATE ON generator_object FOR EACH ROW
    WHEN (OLD.freed_at IS NOT NULL AND NEW.freed_at IS DISTINCT FROM OLD.freed_at) EXECUTE FUNCTION generator_object_guard();

-- Who did what with which picture, and when, to the end. A function's name stands for the clock.
ALTER TABLE generator_review
    DROP CONSTRAINT generator_review_decision_check,
    ADD CHECK (decision IN ('accept', 'discard', 'restore', 'deliver', 'purge'));
CREATE INDEX generator_review_of_artifact ON generator_review (artifact_id, id);

-- Whether a curator is asked at all; without one, the pictures are handed over as they are.
ALTER TABLE generator_job ADD COLUMN review_required boolean NOT NULL DEFAULT true;

-- What retention did, why, how often and with how many bytes; a row without an end was killed on the way.
CREATE TABLE generator_cleanup (
    number   bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    by       text        NOT NULL,
    dry_run  boolean     NOT NULL,
    began_at timestamptz NOT NULL,
    ended_at timestamptz,
    done     jsonb       NOT NULL DEFAULT '[]',           -- [{did, why, count, bytes}]
    problem  text
);

-- Old rows of inbox, outbox and signature_seen are found where they lie: in the order they came.
CREATE INDEX inbox_at ON inbox USING brin (at) WITH (pages_per_range = 16);
CREATE INDEX outbox_time ON outbox USING brin (time) WITH (pages_per_range = 16);
CREATE INDEX signature_seen_expires_at ON signature_seen USING brin (expires_at) WITH (pages_per_range = 16);

-- Forget what no redelivery, retelling or replay can ask about again; gives how many rows that was. Runs with the owner's
-- rights, and itself refuses what is less than a day old: whoever may call it cannot make an event happen twice.
--   inbox           heard before the moment, and no dead letter of the event is left that could be replayed
--   outbox          told, from before the moment, and its job (if it became one) is finished; what runners report stays
--                   with the job, for whoever asks how long its phases took
--   signature_seen  expired before the moment: an expired token is refused for that
CREATE FUNCTION generator_forget(what text, before timestamptz, most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    forgotten integer;
BEGIN
    IF before > now() - interval '1 day' THEN
        RAISE EXCEPTION 'rows of the last day are still needed' USING ERRCODE = 'check_violation';
    END IF;
    CASE what
    WHEN 'inbox' THEN
        DELETE FROM inbox WHERE ctid = ANY (ARRAY(
            SELECT heard.ctid FROM inbox AS heard
            WHERE heard.at < before AND NOT EXISTS (
                SELECT FROM dead_letter AS letter
                WHERE letter.source = heard.source AND letter.id = heard.id AND letter.dropped_at IS NULL)
            LIMIT most FOR UPDATE SKIP LOCKED));
    WHEN 'outbox' THEN
        DELETE FROM outbox WHERE ctid = ANY (ARRAY(
            SELECT told.ctid FROM outbox AS told
            WHERE told.time < before AND told.told_at IS NOT NULL AND told.source <> '/functions/render' AND NOT EXISTS (
                SELECT FROM generator_job AS job
                WHERE job.id = told.subject AND job.state NOT IN ('completed', 'failed', 'cancelled'))
            LIMIT most FOR UPDATE SKIP LOCKED));
    WHEN 'signature_seen' THEN
        DELETE FROM signature_seen WHERE ctid = ANY (ARRAY(
            SELECT used.ctid FROM signature_seen AS used
            WHERE used.expires_at < before LIMIT most FOR UPDATE SKIP LOCKED));
    END CASE;
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END
$$;
REVOKE EXECUTE ON FUNCTION generator_forget FROM PUBLIC;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'generator_retention') THEN
        CREATE ROLE generator_retention NOLOGIN;
    END IF;
    IF NOT pg_has_role('generator_app', 'generator_retention', 'MEMBER') THEN
        GRANT generator_retention TO generator_app;
    END IF;
END
$$;

-- The bytes' count is kept by whoever lets a picture in or go.
GRANT SELECT, INSERT, UPDATE (refs) ON generator_object TO generator_complete;
GRANT INSERT ON generator_review TO generator_complete;
GRANT SELECT, UPDATE (refs, freed_at) ON generator_object TO generator_review;
GRANT UPDATE (decisions, restored_at, released_at) ON generator_artifact TO generator_review;
GRANT SELECT ON generator_review TO generator_review;
GRANT SELECT ON generator_cleanup TO generator_api;

-- By the clock: it decides for curators who did not, and deletes what nobody needs.
GRANT SELECT ON generator_job, generator_artifact, generator_object, generator_review, generator_cleanup
    TO generator_retention;
GRANT UPDATE (state, attempt, worker, cause, detail, run_at, due_ms, changed_at) ON generator_job TO generator_retention;
GRANT UPDATE (decision, decided_at, decisions, released_at, purged_at) ON generator_artifact TO generator_retention;
GRANT INSERT ON generator_review TO generator_retention;
GRANT UPDATE (refs, freed_at, deleted_at, missing_at) ON generator_object TO generator_retention;
GRANT INSERT, UPDATE (ended_at, done, problem) ON generator_cleanup TO generator_retention;
GRANT SELECT (source, id, told_at), INSERT, UPDATE (told_at) ON outbox TO generator_retention;
GRANT SELECT ON generator_credit_transaction TO generator_retention;
GRANT EXECUTE ON FUNCTION generator_ledger_post TO generator_retention;
INSERT INTO generator_ledger_right (role, reason, kind) VALUES ('generator_retention', 'refund', 'failed');
GRANT EXECUTE ON FUNCTION generator_forget TO generator_retention;
-- The operator sees how much is stored, and what retention did.
GRANT SELECT ON generator_artifact, generator_object, generator_cleanup TO generator_operator;
