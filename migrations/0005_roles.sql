-- One role a function, each allowed what its function does and no more.
--
-- None can log in: an installation gives one login the membership it needs (GRANT generator_debit TO debit_login), or,
-- with a single login for all, membership of generator_app, which is a member of every role here.
--
-- What holds for all of them, generator_app too: history is written by the job's own trigger and the ledger by its one
-- routine. What holds for all but generator_app: what was asked, by whom and for how much is never changed again.

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['generator_submit', 'generator_debit', 'generator_dispatch', 'generator_render',
        'generator_complete', 'generator_review', 'generator_cancel', 'generator_sweep', 'generator_api',
        'generator_deadletter', 'generator_metrics', 'generator_operator', 'generator_catalogue']
    LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        END IF;
        IF NOT pg_has_role('generator_app', name, 'MEMBER') THEN
            EXECUTE format('GRANT %I TO generator_app', name);
        END IF;
    END LOOP;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE EXCEPTION '% may not make the roles of the functions: as a superuser run ALTER ROLE % CREATEROLE, then '
        'migrate again', current_user, quote_ident(current_user) USING ERRCODE = 'insufficient_privilege';
END
$$;

-- Hearing and telling: once in effect, and kept until told.
GRANT INSERT ON inbox
    TO generator_submit, generator_debit, generator_dispatch, generator_complete, generator_review, generator_cancel;
GRANT SELECT (source, id, told_at), INSERT, UPDATE (told_at) ON outbox
    TO generator_submit, generator_debit, generator_dispatch, generator_render, generator_complete, generator_review,
       generator_cancel;
GRANT SELECT (jti, event_id), INSERT ON signature_seen TO generator_submit, generator_review, generator_cancel;

-- Jobs. A prompt is in a column of the job's row, which each of these loads whole; metrics, the dead letter sink and
-- the operator cannot.
GRANT SELECT ON generator_job
    TO generator_submit, generator_debit, generator_dispatch, generator_render, generator_complete, generator_review,
       generator_cancel, generator_sweep;
GRANT INSERT ON generator_job TO generator_submit;
GRANT UPDATE (state, attempt, worker, cause, detail, run_at, due_ms, changed_at) ON generator_job
    TO generator_debit, generator_dispatch, generator_render, generator_complete, generator_review, generator_cancel;

-- Credits: who takes a price and who gives it back. Nobody else moves any.
GRANT EXECUTE ON FUNCTION generator_ledger_post TO generator_debit, generator_complete, generator_cancel;

GRANT SELECT ON generator_workflow, generator_model, generator_credit_account TO generator_submit;
GRANT SELECT, UPDATE (sha256, size_bytes) ON generator_model TO generator_render;
GRANT SELECT ON generator_job_transition TO generator_complete;
GRANT INSERT ON generator_artifact TO generator_complete;
GRANT SELECT, UPDATE (decision, collection_id, collection_key, decided_at) ON generator_artifact TO generator_review;
GRANT INSERT ON generator_review TO generator_review;
GRANT SELECT, UPDATE (told_at, tellings, retell_at) ON outbox TO generator_sweep;

-- The REST door lets submit, cancel and review hear what it is asked, in its own process; the rest it only reads.
GRANT generator_submit, generator_cancel, generator_review TO generator_api;
GRANT SELECT ON generator_job_transition, generator_credit_transaction, outbox TO generator_api;

-- What may be asked for is put in place by whoever publishes it.
GRANT SELECT, INSERT ON generator_workflow TO generator_catalogue;
GRANT SELECT, INSERT, UPDATE ON generator_model TO generator_catalogue;

-- The dead letter sink writes what it cannot read back; operators read it, and empty it.
GRANT INSERT, SELECT (number, key, times, dropped_at),
    UPDATE (times, last_at, replayed_at, error_code, error_data) ON dead_letter TO generator_deadletter;
GRANT SELECT, UPDATE ON dead_letter TO generator_operator;
GRANT SELECT (destination, replayed_at, dropped_at) ON dead_letter TO generator_metrics;
GRANT SELECT (time, told_at, retell_at) ON outbox TO generator_metrics;
