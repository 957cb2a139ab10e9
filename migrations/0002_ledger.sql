-- The credit ledger: double entry, whole credits, rows only ever added.
--
-- A user's account row holds the balance and the head of the account's hash chain, and is the lock that concurrent
-- transfers of one user wait for. System accounts (treasury, revenue) hold no balance: it is the sum of their rows, so
-- that no two users ever wait for each other.

CREATE TABLE generator_credit_account (
    id         text        PRIMARY KEY CHECK (id ~ '^(treasury|revenue|user:.{1,128})$'),
    balance    bigint      CHECK (balance >= 0),       -- NULL for system accounts
    head       bytea,                                  -- hash of the account's latest row
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((id LIKE 'user:%') = (balance IS NOT NULL))
);
INSERT INTO generator_credit_account (id) VALUES ('treasury'), ('revenue');

CREATE TABLE generator_credit_transaction (
    id             text        PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 300),
    debit_account  text        NOT NULL REFERENCES generator_credit_account (id),
    credit_account text        NOT NULL REFERENCES generator_credit_account (id),
    amount         bigint      NOT NULL CHECK (amount > 0),
    reason         text        NOT NULL CHECK (reason IN ('grant', 'debit', 'refund', 'adjustment')),
    job_id         text        REFERENCES generator_job (id),
    undoes         text        UNIQUE REFERENCES generator_credit_transaction (id),
    balance        bigint      NOT NULL,               -- of the user's account, after this transfer
    authorised_by  text        NOT NULL,               -- whose instruction
    posted_by      text        NOT NULL DEFAULT session_user, -- whose database credential
    previous       bytea,                              -- hash of the account's row before this one
    hash           bytea       NOT NULL,
    at             timestamptz NOT NULL,
    CHECK (debit_account <> credit_account),
    CHECK ((debit_account LIKE 'user:%') <> (credit_account LIKE 'user:%')),
    CHECK ((reason = 'refund') = (undoes IS NOT NULL))
);
-- One debit a job; `undoes` above makes it one refund.
CREATE UNIQUE INDEX generator_credit_transaction_one_debit ON generator_credit_transaction (job_id)
    WHERE reason = 'debit';
CREATE INDEX generator_credit_transaction_debit ON generator_credit_transaction (debit_account, at DESC, id);
CREATE INDEX generator_credit_transaction_credit ON generator_credit_transaction (credit_account, at DESC, id);

CREATE FUNCTION generator_ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is only ever added to: mend a mistake with another transfer'
        USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON generator_credit_transaction
    FOR EACH STATEMENT EXECUTE FUNCTION generator_ledger_is_append_only();

-- The one way in. Posts a transfer once by its id and gives back what became of it:
--   posted  the transfer was made now
--   known   this id was posted before; nothing moved again
--   short   the debit account holds less than the amount; nothing moved
-- and the balance of the user's account. Runs with the owner's rights; generator_app may call it and cannot write the
-- tables in any other way.
CREATE FUNCTION generator_ledger_post(
    transfer_id text, from_account text, to_account text, credits bigint, why text,
    for_job text, undone text, authorised text,
    OUT outcome text, OUT balance_after bigint
)
-- pg_temp last: looked into first, as it is by default, it would let a caller's temporary table stand in for a real one.
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    holder  text := CASE WHEN from_account LIKE 'user:%' THEN from_account ELSE to_account END;
    change  bigint := CASE WHEN from_account LIKE 'user:%' THEN -credits ELSE credits END;
    held    bigint;
    chain   bytea;
    link    bytea;
    moment  timestamptz;
BEGIN
    INSERT INTO generator_credit_account (id, balance) VALUES (holder, 0) ON CONFLICT DO NOTHING;
    SELECT balance, head INTO held, chain FROM generator_credit_account WHERE id = holder FOR UPDATE;
    IF EXISTS (SELECT FROM generator_credit_transaction WHERE id = transfer_id) THEN
        outcome := 'known'; balance_after := held; RETURN;
    END IF;
    IF held + change < 0 THEN
        outcome := 'short'; balance_after := held; RETURN;
    END IF;
    -- A refund gives back a debit: of the same job, to whoever paid it, and no more than was paid.
    IF why = 'refund' AND NOT EXISTS (
        SELECT FROM generator_credit_transaction AS paid
        WHERE paid.id = undone AND paid.reason = 'debit' AND paid.job_id = for_job
          AND paid.debit_account = to_account AND paid.credit_account = from_account AND paid.amount >= credits
    ) THEN
        RAISE EXCEPTION 'refund %: % is no such debit', transfer_id, undone USING ERRCODE = 'check_violation';
    END IF;
    balance_after := held + change;
    moment := clock_timestamp();  -- under the lock, so that an account's rows are dated in the order they were made
    link := sha256(coalesce(chain, ''::bytea) || convert_to(jsonb_build_array(
        transfer_id, from_account, to_account, credits, why, for_job, undone, balance_after, authorised,
        session_user, extract(epoch FROM moment))::text, 'UTF8'));
    INSERT INTO generator_credit_transaction
        (id, debit_account, credit_account, amount, reason, job_id, undoes, balance, authorised_by, previous, hash, at)
    VALUES
        (transfer_id, from_account, to_account, credits, why, for_job, undone, balance_after, authorised, chain, link,
         moment);
    UPDATE generator_credit_account SET balance = balance_after, head = link WHERE id = holder;
    outcome := 'posted';
END
$$;
REVOKE ALL ON FUNCTION generator_ledger_post FROM PUBLIC;
GRANT EXECUTE ON FUNCTION generator_ledger_post TO generator_app;
GRANT SELECT ON generator_credit_account, generator_credit_transaction TO generator_app;
