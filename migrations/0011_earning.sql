-- How credits come to be, beside the ledger (0010): what achievements have paid, why a grant was refused, and the teams
-- that share an account; what reports and alerts compare the ledger with; and who may do all this.

-- What a user's achievements have paid, by day of UTC: a bound that one account's earnings meet, whoever sends the events.
CREATE TABLE generator_credit_earned (
    account text   NOT NULL,
    day     date   NOT NULL,
    credits bigint NOT NULL CHECK (credits > 0),
    PRIMARY KEY (account, day)
);

ALTER TABLE generator_credit_grant ADD COLUMN refusal text CHECK (length(refusal) <= 500); -- the words of who withdrew it
CREATE INDEX generator_credit_grant_newest ON generator_credit_grant (requested_at DESC, id DESC);

-- Approved, and not to be carried out: the account held too little. Whoever posts a grant cannot write one, so the end of
-- one that cannot be posted stands here.
CREATE TABLE generator_credit_grant_failure (
    grant_id text        PRIMARY KEY REFERENCES generator_credit_grant (id),
    detail   text        NOT NULL,
    at       timestamptz NOT NULL DEFAULT now()
);

-- A team shares the account `pool:<id>`. Who is a member may have jobs paid from it; caps of single members are rows of
-- generator_spending_cap for the spender `pool:<id>/member:<user>`.
CREATE TABLE generator_team_pool (
    id         text        PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9_-]{0,63}$'),
    name       text        NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    created_by text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    closed_at  timestamptz                             -- nothing is paid from it any more
);
CREATE TABLE generator_team_member (
    pool_id  text        NOT NULL REFERENCES generator_team_pool (id),
    user_id  text        NOT NULL CHECK (length(user_id) BETWEEN 1 AND 128),
    added_by text        NOT NULL,
    added_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pool_id, user_id)
);
CREATE INDEX generator_team_member_of_user ON generator_team_member (user_id);

-- Paid and not yet there: the few jobs for which an account's credits are held.
CREATE INDEX generator_job_held ON generator_job (coalesce(payer, 'user:' || user_id))
    WHERE state IN ('debited', 'queued', 'dispatching', 'in_progress');

-- Jobs against transfers, both ways ---------------------------------------------------------------------------------

-- What each job has come to in the ledger. Everything beside the job is looked up for it alone, by index: these views are
-- read a page at a time, and what is joined would be read whole for each.
CREATE VIEW ledger_job AS
SELECT job.id, job.state, job.credits, job.changed_at,
       coalesce(job.payer, 'user:' || job.user_id) AS payer,
       (SELECT true FROM generator_job_transition AS move
        WHERE move.job_id = job.id AND move.to_state = 'debited' LIMIT 1) IS NOT NULL AS debited,
       (SELECT true FROM generator_job_transition AS move
        WHERE move.job_id = job.id AND move.to_state = 'in_progress' LIMIT 1) IS NOT NULL AS rendered,
       price.holder, price.amount AS paid, coalesce(back.credits, 0) AS refunded, coalesce(counted.refunded, 0) AS counted
FROM generator_job AS job
LEFT JOIN LATERAL (
    SELECT id, holder, amount FROM generator_credit_transaction
    WHERE job_id = job.id AND reason = 'debit' AND undoes IS NULL LIMIT 1
) AS price ON true
LEFT JOIN LATERAL (
    SELECT sum(CASE reason WHEN 'refund' THEN amount ELSE -amount END)::bigint AS credits
    FROM generator_credit_transaction AS undoing WHERE undoing.job_id = job.id AND undoing.undoes IS NOT NULL
) AS back ON true
LEFT JOIN LATERAL (SELECT refunded FROM generator_credit_refund WHERE debit_id = price.id LIMIT 1) AS counted ON true;

-- Every job whose transfers are not what its story says they must be, with the first thing that is wrong.
CREATE VIEW ledger_job_discrepancy AS
SELECT id AS job_id, changed_at, wrong.kind, wrong.detail
FROM ledger_job CROSS JOIN LATERAL (
    SELECT CASE
        WHEN debited AND paid IS NULL AND credits > 0 THEN 'unpaid_render'
        WHEN paid <> credits THEN 'wrong_price'
        WHEN holder <> payer THEN 'wrong_payer'
        WHEN NOT debited AND paid IS NOT NULL THEN 'paid_and_not_taken'
        WHEN refunded > paid THEN 'double_refund'
        WHEN refunded <> counted THEN 'refund_miscounted'
        WHEN state = 'failed' AND refunded < paid THEN 'refund_missing'
        WHEN state = 'cancelled' AND NOT rendered AND refunded < paid THEN 'refund_missing'
        WHEN state IN ('debited', 'queued', 'dispatching', 'in_progress') AND refunded > 0 THEN 'refund_too_early'
    END AS kind, format('%s; price %s, paid %s by %s, given back %s', state, credits, coalesce(paid, 0),
                        coalesce(holder, 'nobody'), refunded) AS detail
) AS wrong
WHERE wrong.kind IS NOT NULL;

-- Every transfer that no job, event or grant accounts for.
CREATE VIEW ledger_transfer_discrepancy AS
SELECT moved.id AS transfer_id, moved.number, moved.job_id, moved.at, wrong.kind, wrong.detail
FROM generator_credit_transaction AS moved
LEFT JOIN LATERAL (
    SELECT * FROM generator_credit_grant
    WHERE id = moved.instruction AND moved.kind IN ('admin', 'revocation') LIMIT 1
) AS asked ON true
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN moved.reason IN ('debit', 'refund')
            AND (SELECT true FROM generator_job WHERE id = moved.job_id) IS NULL THEN 'transfer_without_job'
        WHEN moved.format = 1 THEN NULL                -- made before grants were written down
        WHEN moved.kind NOT IN ('admin', 'revocation') THEN NULL
        WHEN asked.id IS NULL THEN 'grant_without_request'
        WHEN asked.account <> moved.holder OR abs(asked.amount) <> moved.amount THEN 'grant_of_another_amount'
        WHEN asked.withdrawn_at IS NOT NULL OR (asked.needs_approval AND asked.approved_at IS NULL)
            THEN 'grant_without_approval'
    END AS kind, format('%s %s of %s credits, authorised by %s', moved.reason, coalesce(moved.kind, ''), moved.amount,
                        moved.authorised_by) AS detail
) AS wrong
WHERE wrong.kind IS NOT NULL;

-- What alerts watch, from the latest few thousand rows: how often each thing is wrong.
CREATE VIEW metric_discrepancy AS
SELECT kind, count(*) AS count FROM (
    SELECT wrong.kind
    FROM (SELECT DISTINCT job_id AS id FROM (
              SELECT job_id FROM generator_job_transition ORDER BY id DESC LIMIT 5000) AS moves) AS latest
    CROSS JOIN LATERAL (SELECT kind FROM ledger_job_discrepancy WHERE job_id = latest.id LIMIT 1) AS wrong
    UNION ALL
    SELECT wrong.kind
    FROM (SELECT number FROM generator_credit_transaction ORDER BY number DESC LIMIT 5000) AS latest
    CROSS JOIN LATERAL (SELECT kind FROM ledger_transfer_discrepancy WHERE number = latest.number LIMIT 1) AS wrong
) AS found
GROUP BY kind;

-- And what admins gave within a day, by account: one admin in small parts, or two together.
CREATE VIEW metric_granted AS
SELECT account, sum(amount) AS credits FROM generator_credit_grant
WHERE requested_at > now() - interval '24 hours' AND amount > 0 AND withdrawn_at IS NULL
  AND (approved_at IS NOT NULL OR NOT needs_approval)
GROUP BY account;

-- Rights ------------------------------------------------------------------------------------------------------------

GRANT INSERT ON inbox TO generator_earn;
GRANT SELECT (source, id, told_at), INSERT, UPDATE (told_at) ON outbox TO generator_earn, generator_operator;
GRANT SELECT (jti, event_id), INSERT ON signature_seen TO generator_earn;

GRANT SELECT, INSERT, UPDATE (credits) ON generator_credit_earned TO generator_app, generator_earn;
GRANT SELECT ON generator_ledger_bound TO generator_debit, generator_earn, generator_submit;
GRANT UPDATE (refusal) ON generator_credit_grant TO generator_app, generator_api, generator_operator;

GRANT SELECT ON generator_credit_grant_failure TO generator_app, generator_earn, generator_api, generator_operator;
GRANT INSERT ON generator_credit_grant_failure TO generator_app, generator_earn;
GRANT SELECT (id, at) ON generator_credit_transaction TO generator_earn;

GRANT SELECT ON generator_team_pool, generator_team_member
    TO generator_app, generator_submit, generator_api, generator_operator;
GRANT INSERT, UPDATE (name, closed_at) ON generator_team_pool TO generator_app, generator_api, generator_operator;
GRANT INSERT, DELETE ON generator_team_member TO generator_app, generator_api, generator_operator;

GRANT SELECT ON metric_total, metric_bookmark, metric_fact TO generator_api;
GRANT SELECT ON ledger_job_discrepancy, ledger_transfer_discrepancy
    TO generator_app, generator_api, generator_operator;
GRANT SELECT ON metric_discrepancy, metric_granted TO generator_app, generator_metrics;
-- What an operator is told of a job in a statement; not what was asked of it.
GRANT SELECT (id, user_id, state, credits, payer, submitted_at, changed_at) ON generator_job TO generator_operator;
