"""Paying: the debit's transaction as shipped, against pgbench doing no more than the same four writes."""

from bench.actor import rate
from bench.row import Goal, Measure, Row, alternate
from bench.servers import Servers

CLIENTS = 8
ACCOUNTS = 8
COUNT = 320  # debits a round, all clients together

TABLES = """
CREATE SCHEMA IF NOT EXISTS floor;
CREATE TABLE IF NOT EXISTS floor.heard (function text, source text, id text, at timestamptz DEFAULT now(),
    PRIMARY KEY (function, source, id));
CREATE TABLE IF NOT EXISTS floor.account (id int PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0));
CREATE TABLE IF NOT EXISTS floor.transfer (id text PRIMARY KEY, account int REFERENCES floor.account, amount bigint,
    at timestamptz DEFAULT now());
CREATE TABLE IF NOT EXISTS floor.told (source text, id text, data jsonb, PRIMARY KEY (source, id));
INSERT INTO floor.account SELECT n, 1000000000 FROM generate_series(1, 8) AS n ON CONFLICT DO NOTHING;
UPDATE generator_ledger_bound SET value = 1000000000 WHERE name = 'grant_credits';
GRANT USAGE ON SCHEMA floor TO generator_app;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA floor TO generator_app;
"""

#: Three inserts and an update, one commit: what was heard, the transfer, the balance, what is said.
FOUR_WRITES = """
\\set account random(1, :accounts)
\\set n random(1, 9000000000000000)
BEGIN;
INSERT INTO floor.heard (function, source, id) VALUES ('debit', '/functions/submit', 'job-' || :n || '-submitted');
INSERT INTO floor.transfer (id, account, amount) VALUES ('job-' || :n, :account, 3);
UPDATE floor.account SET balance = balance - 3 WHERE id = :account;
INSERT INTO floor.told (source, id, data)
    VALUES ('/functions/debit', 'job-' || :n || '-debited', '{"user_id": "u-1", "credits": 3}');
COMMIT;
"""


def submit(row: Measure, servers: Servers, *, clients: int, accounts: int) -> Row:
    """Debits a second, by this many clients on this many accounts."""
    servers.run_sql(TABLES)
    ours = servers.python("bench.actors.debit", DATABASE_URL=servers.postgres.app_url)
    users = [f"bench-{number}" for number in range(accounts)]
    ours.do("fund", users=users)

    def debited() -> float:
        ours.do("submit", users=users, count=COUNT)
        return rate([ours], "debit", threads=clients)

    def floor() -> float:
        each = 4 * COUNT // clients  # it is so much faster that as many would be over at once
        return servers.pgbench(FOUR_WRITES, clients=clients, transactions=each, accounts=accounts)

    return row.judge(alternate(debited, floor))


ROWS = [
    Measure(
        name=f"submit_vs_pgbench_{name}",
        unit="debits/s",
        reference="pgbench, prepared: 3 inserts, 1 update, 1 commit",
        goal=Goal(least=least),
        about=about,
        run=lambda row, servers, c=clients, a=accounts: submit(row, servers, clients=c, accounts=a),
    )
    for name, clients, accounts, least, about in (
        ("1", 1, ACCOUNTS, 0.30, "the debit's transaction, one client"),
        ("8", CLIENTS, ACCOUNTS, 0.20, "the same, 8 threads of one process on 8 accounts"),
        ("hot", CLIENTS, 1, 0.40, "the same, 8 threads on one account"),
    )
]
