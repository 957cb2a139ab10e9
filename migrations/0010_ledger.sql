-- The ledger grown up: teams' accounts, a reserve that refunds come from, refunds of parts, spending caps, quotes, and
-- two proofs on every row: whose instruction it was, and which role posted it.
--
-- Nothing of 0002 is undone: rows made before keep their hash (`format` 1), and the routine keeps its name. It and its
-- tables now belong to generator_ledger, a role that nobody logs in as, so that it runs with the ledger's rights alone.
--
-- No single credential makes credits. Every role may post only what `generator_ledger_right` lists. Who can write a
-- manual grant down (api, operator) cannot post it, and who can post it (earn) cannot write it down; large ones need a
-- second admin. What functions may give by themselves (a day's refresh, an achievement) is bounded by
-- `generator_ledger_bound`, which only the schema's owner changes.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'generator_ledger') THEN
        CREATE ROLE generator_ledger NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'generator_earn') THEN
        CREATE ROLE generator_earn NOLOGIN;
    END IF;
    IF NOT pg_has_role('generator_app', 'generator_earn', 'MEMBER') THEN
        GRANT generator_earn TO generator_app;
    END IF;
    IF NOT pg_has_role(current_user, 'generator_ledger', 'USAGE')
       OR NOT pg_has_role(current_user, 'generator_ledger', 'SET') THEN
        EXECUTE format('GRANT generator_ledger TO %I WITH INHERIT TRUE, SET TRUE', current_user);
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE EXCEPTION '% may not make the ledger''s roles: as a superuser run ALTER ROLE % CREATEROLE, then migrate '
        'again', current_user, quote_ident(current_user) USING ERRCODE = 'insufficient_privilege';
END
$$;

-- Accounts

-- Users and teams (`pool:<team>`) hold credits; the others are what a sum over the rows says.
CREATE FUNCTION generator_ledger_holds(account text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN account LIKE 'user:%' OR account LIKE 'pool:%';

ALTER TABLE generator_credit_account
    DROP CONSTRAINT generator_credit_account_id_check,
    DROP CONSTRAINT generator_credit_account_check,
    ADD CONSTRAINT generator_credit_account_id_check
        CHECK (id ~ '^(treasury|revenue|refund-reserve|(user|pool):.{1,128})$'),
    ADD CONSTRAINT generator_credit_account_check CHECK (generator_ledger_holds(id) = (balance IS NOT NULL)),
    ADD COLUMN last_at   timestamptz,                  -- of the account's latest row
    ADD COLUMN refreshed_on date,                      -- the UTC day whose refresh was given, or found not needed
    ADD COLUMN earned_on date,                         -- the latest UTC day on which an achievement paid,
    ADD COLUMN earned    bigint NOT NULL DEFAULT 0;    -- and what that day's have paid
-- What refunds have cost stands apart from what prices have earned; revenue owes the reserve its sum.
INSERT INTO generator_credit_account (id) VALUES ('refund-reserve');

-- Transfers

-- A price names the job and its request; a refund names the debit it gives back, an undo the refund it takes back.
ALTER TABLE generator_credit_transaction
    ADD COLUMN holder text NOT NULL GENERATED ALWAYS AS (
        CASE WHEN debit_account LIKE 'user:%' OR debit_account LIKE 'pool:%' THEN debit_account ELSE credit_account END
    ) STORED,                                          -- the account in whose chain this row is
    ADD COLUMN format smallint NOT NULL DEFAULT 1 CHECK (format IN (1, 2)), -- what its hash is made of
    ADD COLUMN kind text,                              -- the occasion, within the reason
    ADD COLUMN quote_id text,
    ADD COLUMN spender text,                           -- the member of a team who spent its credits
    ADD COLUMN token_id text,                          -- the API token that was used
    ADD COLUMN instruction text;                       -- which signed instruction, event or grant this carries out
ALTER TABLE generator_credit_transaction ALTER COLUMN format SET DEFAULT 2;

-- A foreign key locks the row it looks up, and every user's debit looked up revenue's: only holders are looked up now.
DROP INDEX generator_credit_transaction_debit, generator_credit_transaction_credit,
           generator_credit_transaction_one_debit;
ALTER TABLE generator_credit_transaction
    DROP CONSTRAINT generator_credit_transaction_debit_account_fkey,
    DROP CONSTRAINT generator_credit_transaction_credit_account_fkey,
    DROP CONSTRAINT generator_credit_transaction_undoes_key,
    DROP CONSTRAINT generator_credit_transaction_check1,
    DROP CONSTRAINT generator_credit_transaction_check2,
    ADD FOREIGN KEY (holder) REFERENCES generator_credit_account (id),
    -- Which way credits may go: one holder, one system account, and what the reason is for.
    ADD CONSTRAINT generator_credit_transaction_way CHECK (CASE reason
        WHEN 'debit' THEN debit_account = holder AND credit_account = CASE WHEN undoes IS NULL THEN 'revenue'
                                                                           ELSE 'refund-reserve' END
        WHEN 'refund' THEN credit_account = holder AND debit_account = CASE format WHEN 1 THEN 'revenue'
                                                                                   ELSE 'refund-reserve' END
        WHEN 'grant' THEN credit_account = holder AND debit_account = 'treasury'
        WHEN 'adjustment' THEN 'treasury' IN (debit_account, credit_account)
    END),
    ADD CONSTRAINT generator_credit_transaction_undoes CHECK (CASE reason
        WHEN 'refund' THEN undoes IS NOT NULL
        WHEN 'debit' THEN (kind IS NOT DISTINCT FROM 'undo') = (undoes IS NOT NULL)
        ELSE undoes IS NULL
    END),
    ADD CONSTRAINT generator_credit_transaction_kind CHECK (format = 1 OR coalesce(kind, '') = ANY (CASE reason
        WHEN 'debit' THEN ARRAY['price', 'undo']
        WHEN 'refund' THEN ARRAY['failed', 'cancelled', 'moderation', 'missing', 'discard']
        WHEN 'grant' THEN ARRAY['refresh', 'achievement', 'admin']
        WHEN 'adjustment' THEN ARRAY['admin', 'revocation']
    END)),
    ADD CONSTRAINT generator_credit_transaction_proofs CHECK (format = 1 OR instruction IS NOT NULL);
CREATE INDEX generator_credit_transaction_of_holder ON generator_credit_transaction (holder, at, id);
-- One price a job, under whatever id; a refund is taken back once.
CREATE UNIQUE INDEX generator_credit_transaction_one_debit ON generator_credit_transaction (job_id)
    WHERE reason = 'debit' AND undoes IS NULL;
CREATE UNIQUE INDEX generator_credit_transaction_one_undo ON generator_credit_transaction (undoes)
    WHERE reason = 'debit' AND undoes IS NOT NULL;
CREATE INDEX generator_credit_transaction_undoing ON generator_credit_transaction (job_id) WHERE undoes IS NOT NULL;

-- How much of a debit has come back. Many refunds may undo parts of it, and never more than the whole.
CREATE TABLE generator_credit_refund (
    debit_id  text   PRIMARY KEY REFERENCES generator_credit_transaction (id),
    paid      bigint NOT NULL CHECK (paid > 0),
    refunded  bigint NOT NULL CHECK (refunded BETWEEN 0 AND paid),
    discarded bigint NOT NULL DEFAULT 0 CHECK (discarded BETWEEN 0 AND paid / 2) -- the part that discards gave back
);
INSERT INTO generator_credit_refund (debit_id, paid, refunded)
SELECT paid.id, paid.amount, back.amount FROM generator_credit_transaction AS back
JOIN generator_credit_transaction AS paid ON paid.id = back.undoes WHERE back.reason = 'refund';

-- What a row's hash is made of, beside the hash before it: JSON, as jsonb writes it, of all that it says.
CREATE FUNCTION generator_ledger_seal(said generator_credit_transaction) RETURNS bytea
LANGUAGE sql STABLE
RETURN sha256(coalesce(said.previous, ''::bytea) || convert_to(jsonb_build_array(
    said.format, said.id, said.debit_account, said.credit_account, said.amount, said.reason, said.kind, said.job_id,
    said.undoes, said.balance, said.quote_id, said.spender, said.token_id, said.authorised_by, said.instruction,
    said.posted_by, to_char(said.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))::text, 'UTF8'));

-- Who may post what

CREATE TABLE generator_ledger_right (
    role   text NOT NULL,
    reason text NOT NULL,
    kind   text NOT NULL,
    PRIMARY KEY (reason, kind, role)
);
INSERT INTO generator_ledger_right (role, reason, kind) VALUES
    ('generator_debit', 'debit', 'price'),
    ('generator_debit', 'grant', 'refresh'),           -- a day's first touch may be a debit,
    ('generator_submit', 'grant', 'refresh'),          -- a request,
    ('generator_api', 'grant', 'refresh'),             -- or a look at the balance
    ('generator_earn', 'grant', 'refresh'),
    ('generator_complete', 'refund', 'failed'),
    ('generator_complete', 'refund', 'missing'),
    ('generator_cancel', 'refund', 'cancelled'),
    ('generator_review', 'refund', 'moderation'),
    ('generator_review', 'refund', 'discard'),
    ('generator_review', 'debit', 'undo'),
    ('generator_sweep', 'refund', 'failed'),
    ('generator_earn', 'grant', 'achievement'),
    ('generator_earn', 'grant', 'admin'),
    ('generator_earn', 'adjustment', 'admin'),
    ('generator_earn', 'adjustment', 'revocation');

-- What the settings of the functions may choose within; the schema's owner alone moves these.
CREATE TABLE generator_ledger_bound (
    name  text   PRIMARY KEY,
    value bigint NOT NULL CHECK (value >= 0)
);
INSERT INTO generator_ledger_bound (name, value) VALUES
    ('grant_credits', 500),            -- an admin may grant this much alone,
    ('grant_approval_h', 24),          -- and for more, a second one has this long
    ('refresh_credits', 200),          -- a refresh fills an account up to this, once a day
    ('achievement_credits', 100),      -- one achievement is worth this,
    ('achievement_day_credits', 1000); -- and all of an account's in a day this

CREATE FUNCTION generator_ledger_most(bound text) RETURNS bigint
LANGUAGE sql STABLE
RETURN (SELECT value FROM generator_ledger_bound WHERE name = bound);

-- Manual grants: written down by one role, posted by another. `amount` below zero takes credits away.
CREATE TABLE generator_credit_grant (
    id             text        PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$'),
    account        text        NOT NULL CHECK (account ~ '^(user|pool):.{1,128}$'),
    amount         bigint      NOT NULL CHECK (amount <> 0),
    kind           text        NOT NULL CHECK (kind IN ('grant', 'adjustment', 'revocation')),
    reason         text        NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
    requested_by   text        NOT NULL CHECK (length(requested_by) BETWEEN 1 AND 128), -- the admin
    instruction    text        NOT NULL CHECK (length(instruction) BETWEEN 1 AND 300),  -- what the admin signed
    requested_at   timestamptz NOT NULL DEFAULT now(),
    written_by     text        NOT NULL DEFAULT session_user,
    needs_approval boolean     NOT NULL DEFAULT false,
    approved_by    text,                               -- the second admin
    approval       text,                               -- what the second admin signed
    approved_at    timestamptz,
    withdrawn_by   text,
    withdrawn_at   timestamptz,
    CHECK (CASE kind WHEN 'grant' THEN amount > 0 WHEN 'revocation' THEN amount < 0 ELSE true END),
    CHECK (approved_by <> requested_by AND 'user:' || approved_by <> account),
    CHECK ((approved_by IS NULL) = (approved_at IS NULL) AND (approved_by IS NULL) = (approval IS NULL)),
    CHECK ((withdrawn_by IS NULL) = (withdrawn_at IS NULL))
);
CREATE INDEX generator_credit_grant_of_account ON generator_credit_grant (account, requested_at DESC);
CREATE INDEX generator_credit_grant_open ON generator_credit_grant (requested_at)
    WHERE needs_approval AND approved_at IS NULL AND withdrawn_at IS NULL;

-- A grant is asked for once, and then only approved or withdrawn, once and in time. The moments are the database's own.
CREATE FUNCTION generator_credit_grant_guard() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.requested_at := now();
        NEW.written_by := session_user;
        NEW.needs_approval := NEW.needs_approval OR (NEW.amount > 0 AND (NEW.account = 'user:' || NEW.requested_by
            OR NEW.amount > generator_ledger_most('grant_credits')));
        IF NEW.approved_by IS NOT NULL OR NEW.withdrawn_by IS NOT NULL THEN
            RAISE EXCEPTION 'grant %: it is asked for first, and approved after', NEW.id
                USING ERRCODE = 'check_violation', CONSTRAINT = 'generator_credit_grant_guard';
        END IF;
        RETURN NEW;
    END IF;
    IF ROW(NEW.id, NEW.account, NEW.amount, NEW.kind, NEW.reason, NEW.requested_by, NEW.instruction, NEW.requested_at,
           NEW.written_by, NEW.needs_approval)
       IS DISTINCT FROM ROW(OLD.id, OLD.account, OLD.amount, OLD.kind, OLD.reason, OLD.requested_by, OLD.instruction,
           OLD.requested_at, OLD.written_by, OLD.needs_approval)
       OR OLD.approved_by IS NOT NULL OR OLD.withdrawn_by IS NOT NULL THEN
        RAISE EXCEPTION 'grant %: what was asked for stands, and is approved or withdrawn once', NEW.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'generator_credit_grant_guard';
    END IF;
    IF NEW.approved_by IS NOT NULL THEN
        IF now() > OLD.requested_at + generator_ledger_most('grant_approval_h') * interval '1 hour' THEN
            RAISE EXCEPTION 'grant %: it was asked for too long ago to be approved: ask for it anew', NEW.id
                USING ERRCODE = 'check_violation', CONSTRAINT = 'generator_credit_grant_late';
        END IF;
        NEW.approved_at := now();
    END IF;
    NEW.withdrawn_at := CASE WHEN NEW.withdrawn_by IS NOT NULL THEN now() END;
    RETURN NEW;
END
$$;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON generator_credit_grant
    FOR EACH ROW EXECUTE FUNCTION generator_credit_grant_guard();

-- Spending caps

-- A spender is an account, an API token (`token:<id>`) or a member of a team (`pool:<team>/member:<user>`).
CREATE TABLE generator_spending_cap (
    spender text        NOT NULL CHECK (length(spender) BETWEEN 1 AND 300),
    period  text        NOT NULL CHECK (period IN ('day', 'week', 'month')),
    credits bigint      CHECK (credits >= 0),          -- NULL: none, whatever the role's setting says
    set_by  text        NOT NULL,
    at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (spender, period)
);

-- What a spender has spent since the day, week and month began (UTC; weeks begin on Monday), refunds taken off.
CREATE TABLE generator_spending (
    spender text   PRIMARY KEY,
    on_day  date   NOT NULL,                           -- of the latest spending: the sums are of its periods
    day     bigint NOT NULL CHECK (day >= 0),
    week    bigint NOT NULL CHECK (week >= 0),
    month   bigint NOT NULL CHECK (month >= 0)
) WITH (fillfactor = 50);

-- What each of these has spent in the periods of this day.
CREATE FUNCTION generator_ledger_spent(spenders text[], today date)
RETURNS TABLE (spender text, period text, spent bigint)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT who, part.name, CASE WHEN date_trunc(part.name, kept.on_day) = date_trunc(part.name, today)
                                THEN part.spent ELSE 0 END
    FROM unnest(spenders) AS who
    LEFT JOIN generator_spending AS kept ON kept.spender = who
    CROSS JOIN LATERAL (VALUES ('day', kept.day), ('week', kept.week), ('month', kept.month)) AS part (name, spent);
END;

-- The first cap that spending this much more would break, in words; NULL when none would. `caps` is what the role of an
-- account's user allows where no row says otherwise: {"day": 100}.
CREATE FUNCTION generator_ledger_over_cap(spenders text[], needed bigint, caps jsonb) RETURNS text
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT format('%s may spend %s credits a %s: %s are spent, %s are needed', so_far.spender, cap.most, so_far.period,
                  so_far.spent, needed)
    FROM generator_ledger_spent(spenders, (now() AT TIME ZONE 'UTC')::date) AS so_far
    LEFT JOIN generator_spending_cap AS own ON own.spender = so_far.spender AND own.period = so_far.period
    CROSS JOIN LATERAL (SELECT CASE
        WHEN own.spender IS NOT NULL THEN own.credits
        WHEN so_far.spender LIKE 'user:%' THEN (caps ->> so_far.period)::bigint
    END AS most) AS cap
    WHERE so_far.spent + needed > cap.most
    ORDER BY cap.most, so_far.spender LIMIT 1;
END;

CREATE FUNCTION generator_ledger_spenders(account text, member text, token text) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN array_remove(ARRAY[account, account || '/member:' || member, 'token:' || token], NULL);

-- Add to what these have spent on that day; below zero for what came back.
CREATE FUNCTION generator_ledger_spend(spenders text[], credits bigint, that_day date) RETURNS void
LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO generator_spending AS kept (spender, on_day, day, week, month)
    SELECT who, that_day, greatest(0, credits), greatest(0, credits), greatest(0, credits)
    FROM unnest(spenders) AS who ORDER BY who
    ON CONFLICT (spender) DO UPDATE SET
        on_day = greatest(kept.on_day, excluded.on_day),
        day = CASE WHEN kept.on_day = excluded.on_day THEN greatest(0, kept.day + $2)
                   WHEN kept.on_day < excluded.on_day THEN excluded.day ELSE kept.day END,
        week = CASE WHEN date_trunc('week', kept.on_day) = date_trunc('week', excluded.on_day)
                    THEN greatest(0, kept.week + $2)
                    WHEN kept.on_day < excluded.on_day THEN excluded.week ELSE kept.week END,
        month = CASE WHEN date_trunc('month', kept.on_day) = date_trunc('month', excluded.on_day)
                     THEN greatest(0, kept.month + $2)
                     WHEN kept.on_day < excluded.on_day THEN excluded.month ELSE kept.month END;
END;

-- Prices

-- A price that was named, and stands until `expires_at` for the same request of the same user.
CREATE TABLE generator_quote (
    id             text        PRIMARY KEY,
    user_id        text        NOT NULL,
    request_sha256 text        NOT NULL CHECK (request_sha256 ~ '^[0-9a-f]{64}$'),
    version        text        NOT NULL,
    render         bigint      NOT NULL CHECK (render >= 0),
    loras          bigint      NOT NULL CHECK (loras >= 0),
    boost          bigint      NOT NULL CHECK (boost >= 0),
    created_at     timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz NOT NULL
);
CREATE INDEX generator_quote_expiry ON generator_quote (expires_at);

ALTER TABLE generator_job
    ADD COLUMN price_version text NOT NULL DEFAULT '1',
    ADD COLUMN quote_id      text,
    ADD COLUMN payer         text CHECK (payer ~ '^pool:.{1,128}$'), -- NULL: its user's own account
    ADD COLUMN token_id      text;

-- The one way in

-- Whether the caller may post this: whoever SET ROLE made it, else whoever logged in. current_user is the owner's here.
CREATE FUNCTION generator_ledger_may(why text, occasion text) RETURNS boolean
LANGUAGE sql STABLE
RETURN EXISTS (
    SELECT FROM generator_ledger_right WHERE reason = why AND kind = occasion AND pg_has_role(
        CASE current_setting('role') WHEN 'none' THEN session_user ELSE current_setting('role')::name END, role, 'USAGE'
    )
);

DROP FUNCTION generator_ledger_post;

-- Posts a transfer once by its id and gives back what became of it:
--   posted  the transfer was made now
--   known   this id was posted before, or nothing of it is left to do; nothing moved again
--   short   the account holds less than the amount; nothing moved
--   capped  a spending cap would be broken, `detail` says which; nothing moved
-- with how much moved, or for `short` should have, and the account's balance after. What makes no sense, or is not the
-- caller's to post, is an error.
--
-- Some amounts are decided here, under the account's lock: no refund gives back more than has not come back yet, so a
-- job's full one (`<job>:refund`) is whatever is left; an undo takes what its refund gave, which may be nothing; a
-- refresh is what the account lacks of `credits`, the level it is filled up to.
CREATE FUNCTION generator_ledger_post(
    transfer_id text, from_account text, to_account text, credits bigint, why text, occasion text,
    for_job text, undone text, authorised text, instructed text,
    quoted text DEFAULT NULL, member text DEFAULT NULL, token text DEFAULT NULL, caps jsonb DEFAULT NULL,
    OUT outcome text, OUT amount bigint, OUT balance_after bigint, OUT detail text
)
-- pg_temp last: looked into first, as it is by default, it would let a caller's temporary table stand in for a real
-- one.
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    whose    text := CASE WHEN generator_ledger_holds(from_account) THEN from_account ELSE to_account END;
    today    date := (now() AT TIME ZONE 'UTC')::date;
    account  generator_credit_account;
    made     generator_credit_transaction;
    paid     generator_credit_transaction; -- the debit that a refund gives back
    back     generator_credit_transaction; -- the refund that an undo takes back
    gone     bigint;                       -- how much of the debit has come back, or comes back for a discard
BEGIN
    IF NOT generator_ledger_may(why, occasion) THEN
        RAISE EXCEPTION 'transfer %: permission denied to post % (%)', transfer_id, why, occasion
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT * INTO account FROM generator_credit_account WHERE id = whose FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO generator_credit_account (id, balance) VALUES (whose, 0) ON CONFLICT DO NOTHING;
        SELECT * INTO account FROM generator_credit_account WHERE id = whose FOR UPDATE;
    END IF;
    amount := 0; balance_after := account.balance; outcome := 'known';
    IF EXISTS (SELECT FROM generator_credit_transaction WHERE id = transfer_id) THEN
        RETURN;
    END IF;

    IF why = 'debit' AND occasion = 'price' THEN
        -- The price that stands in the job, from whoever pays for it.
        IF NOT EXISTS (
            SELECT FROM generator_job AS job
            WHERE job.id = for_job AND job.credits = generator_ledger_post.credits
              AND coalesce(job.payer, 'user:' || job.user_id) = from_account
        ) THEN
            RAISE EXCEPTION 'debit %: that is not the price of job %, or not whoever pays it', transfer_id, for_job
                USING ERRCODE = 'check_violation';
        END IF;
    ELSIF why = 'debit' THEN
        SELECT * INTO back FROM generator_credit_transaction AS refund
        WHERE refund.id = undone AND refund.reason = 'refund' AND refund.kind = 'discard' AND refund.job_id = for_job
          AND refund.holder = from_account;
        IF NOT FOUND THEN
            RETURN;
        END IF;
        credits := back.amount;
        SELECT * INTO paid FROM generator_credit_transaction WHERE id = back.undoes;
    ELSIF why = 'refund' THEN
        -- It gives back a debit: of the same job, to whoever paid it, and in all no more than was paid.
        SELECT * INTO paid FROM generator_credit_transaction AS price
        WHERE price.id = undone AND price.reason = 'debit' AND price.undoes IS NULL AND price.job_id = for_job
          AND price.holder = to_account AND price.amount >= credits;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'refund %: % is no such debit', transfer_id, undone USING ERRCODE = 'check_violation';
        END IF;
        SELECT refunded INTO gone FROM generator_credit_refund WHERE debit_id = paid.id;
        credits := least(credits, paid.amount - coalesce(gone, 0));
        IF credits = 0 THEN
            RETURN;
        END IF;
    ELSIF occasion = 'refresh' THEN
        IF transfer_id <> format('%s:grant:refresh:%s', to_account, today) OR to_account NOT LIKE 'user:%'
           OR credits > generator_ledger_most('refresh_credits') THEN
            RAISE EXCEPTION 'refresh %: a user''s account is filled once a day, up to % credits', transfer_id,
                generator_ledger_most('refresh_credits') USING ERRCODE = 'check_violation';
        END IF;
        IF account.refreshed_on = today THEN
            RETURN;
        END IF;
        UPDATE generator_credit_account SET refreshed_on = today WHERE id = whose;
        credits := credits - account.balance;
        IF credits <= 0 THEN
            RETURN;
        END IF;
    ELSIF occasion = 'achievement' THEN
        UPDATE generator_credit_account
        SET earned_on = today, earned = credits + CASE WHEN earned_on = today THEN earned ELSE 0 END
        WHERE id = whose RETURNING earned INTO account.earned;
        IF NOT starts_with(transfer_id, to_account || ':grant:achievement:')
           OR credits > generator_ledger_most('achievement_credits')
           OR account.earned > generator_ledger_most('achievement_day_credits') THEN
            RAISE EXCEPTION 'achievement %: it names its occasion and is worth % credits at the most, all of a day %',
                transfer_id, generator_ledger_most('achievement_credits'),
                generator_ledger_most('achievement_day_credits') USING ERRCODE = 'check_violation';
        END IF;
    ELSIF NOT EXISTS (
        SELECT FROM generator_credit_grant AS asked
        WHERE asked.id = instructed AND transfer_id = format('%s:%s:%s', whose, why, asked.id)
          AND asked.account = whose AND asked.amount = CASE WHEN whose = to_account THEN credits ELSE -credits END
          AND format('%s (%s)', why, occasion) = CASE asked.kind WHEN 'grant' THEN 'grant (admin)'
              WHEN 'adjustment' THEN 'adjustment (admin)' ELSE 'adjustment (revocation)' END
          AND asked.withdrawn_at IS NULL AND (asked.approved_at IS NOT NULL OR NOT asked.needs_approval)
    ) THEN
        RAISE EXCEPTION '% %: there is no such grant, or it is not approved', why, transfer_id
            USING ERRCODE = 'check_violation';
    END IF;

    IF whose = from_account AND account.balance < credits THEN
        outcome := 'short'; amount := credits;
        RETURN;
    END IF;
    IF occasion = 'price' THEN
        detail := generator_ledger_over_cap(generator_ledger_spenders(whose, member, token), credits, caps);
        IF detail IS NOT NULL THEN
            outcome := 'capped';
            RETURN;
        END IF;
    END IF;

    amount := credits;
    balance_after := account.balance + CASE WHEN whose = to_account THEN credits ELSE -credits END;
    made.id := transfer_id; made.debit_account := from_account; made.credit_account := to_account;
    made.amount := credits; made.reason := why; made.kind := occasion; made.job_id := for_job; made.undoes := undone;
    made.balance := balance_after; made.quote_id := quoted; made.spender := member; made.token_id := token;
    made.authorised_by := authorised; made.instruction := instructed; made.posted_by := session_user;
    made.format := 2; made.previous := account.head;
    -- Under the lock, and later than the row before whatever the clock says: rows are dated in their order.
    made.at := greatest(clock_timestamp(), account.last_at + interval '1 microsecond');
    made.hash := generator_ledger_seal(made);
    INSERT INTO generator_credit_transaction
        (id, debit_account, credit_account, amount, reason, kind, job_id, undoes, balance, quote_id, spender, token_id,
         authorised_by, instruction, posted_by, format, previous, hash, at)
    VALUES
        (made.id, made.debit_account, made.credit_account, made.amount, made.reason, made.kind, made.job_id,
         made.undoes, made.balance, made.quote_id, made.spender, made.token_id, made.authorised_by, made.instruction,
         made.posted_by, made.format, made.previous, made.hash, made.at);
    UPDATE generator_credit_account SET balance = made.balance, head = made.hash, last_at = made.at WHERE id = whose;

    IF occasion = 'price' THEN
        PERFORM generator_ledger_spend(generator_ledger_spenders(whose, member, token), credits,
                                       (made.at AT TIME ZONE 'UTC')::date);
    ELSIF paid.id IS NOT NULL THEN
        IF why = 'refund' THEN
            gone := CASE occasion WHEN 'discard' THEN credits ELSE 0 END;
            INSERT INTO generator_credit_refund AS kept (debit_id, paid, refunded, discarded)
            VALUES (paid.id, paid.amount, credits, gone)
            ON CONFLICT (debit_id) DO UPDATE SET refunded = kept.refunded + credits, discarded = kept.discarded + gone;
        ELSE
            UPDATE generator_credit_refund SET refunded = refunded - credits, discarded = discarded - credits
            WHERE debit_id = paid.id;
        END IF;
        PERFORM generator_ledger_spend(generator_ledger_spenders(whose, paid.spender, paid.token_id),
            CASE why WHEN 'refund' THEN -credits ELSE credits END, (paid.at AT TIME ZONE 'UTC')::date);
    END IF;
    outcome := 'posted';
END
$$;

-- Who counts

-- As in 0006, but for the last line: teams hold credits too.
CREATE OR REPLACE VIEW metric_fact AS
SELECT 'move' AS origin, move.id AS number, fact.name, fact.labels, fact.value
FROM generator_job_transition AS move
JOIN generator_job AS job ON job.id = move.job_id
CROSS JOIN LATERAL (
    VALUES ('moves', ARRAY[job.pool, coalesce(move.from_state, ''), move.to_state], 1::bigint),
           (CASE WHEN move.to_state = 'failed' THEN 'failed'
                 WHEN move.to_state <> 'queued' OR move.from_state NOT IN ('dispatching', 'in_progress') THEN NULL
                 WHEN move.cause = 'given_back' THEN 'given_back' ELSE 'retries' END,
            ARRAY[job.pool, coalesce(move.cause, 'unknown')], 1)
) AS fact (name, labels, value)
WHERE fact.name IS NOT NULL
UNION ALL
SELECT 'move', phase.number, fact.name, fact.labels, fact.value
FROM metric_phase AS phase
JOIN generator_job_transition AS move ON move.id = phase.number
JOIN generator_job AS job ON job.id = move.job_id
CROSS JOIN LATERAL (
    VALUES ('phase_ms', ARRAY[job.pool, phase.phase], phase.ms),
           ('phase_bucket', ARRAY[job.pool, phase.phase, metric_bucket(phase.ms)], 1)
) AS fact (name, labels, value)
UNION ALL
SELECT 'move', render.number, fact.name, fact.labels, fact.value
FROM metric_render AS render
CROSS JOIN LATERAL (
    VALUES ('cold_starts', ARRAY[render.pool], render.cold_start::integer::bigint),
           ('model_cache', ARRAY['hit'], render.cache_hits),
           ('model_cache', ARRAY['miss'], render.cache_misses),
           ('model_fetched_bytes', ARRAY[]::text[], render.fetched_bytes)
) AS fact (name, labels, value)
WHERE fact.value IS NOT NULL
UNION ALL
SELECT 'transfer', transfer.number, fact.name, fact.labels, fact.value
FROM generator_credit_transaction AS transfer
CROSS JOIN LATERAL (
    VALUES ('credits', ARRAY[transfer.reason], transfer.amount),
           ('system_accounts', ARRAY[]::text[],
            CASE WHEN transfer.credit_account = transfer.holder THEN -transfer.amount ELSE transfer.amount END)
) AS fact (name, labels, value);

-- Rights

GRANT SELECT (id, user_id, credits, payer) ON generator_job TO generator_ledger;
GRANT SELECT ON generator_credit_grant, generator_ledger_bound, generator_ledger_right, generator_spending_cap
    TO generator_ledger;

GRANT CREATE ON SCHEMA public TO generator_ledger;     -- only whoever may make a table may be given one
ALTER TABLE generator_credit_account OWNER TO generator_ledger;
ALTER TABLE generator_credit_transaction OWNER TO generator_ledger;
ALTER TABLE generator_credit_refund OWNER TO generator_ledger;
ALTER TABLE generator_spending OWNER TO generator_ledger;
ALTER FUNCTION generator_ledger_post OWNER TO generator_ledger;
REVOKE CREATE ON SCHEMA public FROM generator_ledger;

REVOKE ALL ON FUNCTION generator_ledger_post, generator_ledger_spend FROM PUBLIC;
GRANT EXECUTE ON FUNCTION generator_ledger_spend TO generator_ledger;
GRANT EXECUTE ON FUNCTION generator_ledger_post
    TO generator_app, generator_submit, generator_debit, generator_complete, generator_review, generator_cancel,
       generator_sweep, generator_earn, generator_api;

GRANT SELECT ON generator_spending_cap, generator_spending, generator_ledger_bound
    TO generator_app, generator_submit, generator_api, generator_operator;
GRANT INSERT, UPDATE, DELETE ON generator_spending_cap TO generator_app, generator_operator, generator_api;
GRANT SELECT ON generator_credit_account, generator_credit_transaction, generator_credit_refund
    TO generator_app, generator_operator, generator_api;
GRANT SELECT ON generator_credit_account TO generator_debit, generator_earn;

GRANT SELECT, INSERT (id, account, amount, kind, reason, requested_by, instruction, needs_approval),
    UPDATE (approved_by, approval, withdrawn_by) ON generator_credit_grant
    TO generator_app, generator_api, generator_operator;
GRANT SELECT ON generator_credit_grant TO generator_earn;

GRANT SELECT ON generator_quote TO generator_app, generator_submit;
GRANT SELECT, INSERT ON generator_quote TO generator_app, generator_api;
GRANT SELECT (expires_at), DELETE ON generator_quote TO generator_app, generator_sweep;
