"""What must not grow: a claim with the line, a sweep with history."""

from bench.row import Goal, Measure, Row, alternate
from bench.servers import Servers

OURS = "bench.actors.line"
MILLION = 1_000_000
CLAIMS = 400  # a round


def claim_growth(row: Measure, servers: Servers) -> Row:
    """A claim with a million waiting (and 100,000 delayed, 10,000 leased, of 10,000 users) against one with a thousand.

    Filled by the same scripts as ever, a thousand calls to a round trip.
    """
    ours = servers.python(OURS, LEASE_S="86400", HEARTBEAT_S="10")
    servers.empty()
    ours.do("fill", pool="small", count=1000, users=500, delayed=100, leased=10)
    ours.do("fill", pool="large", count=MILLION, users=10_000, delayed=MILLION // 10, leased=MILLION // 100)
    depth = ours.do("depth", pool="large")
    waiting = depth["waiting"] + depth["held"]
    assert (waiting, depth["delayed"], depth["leased"]) == (MILLION, MILLION // 10, MILLION // 100), depth
    pairs = alternate(
        lambda: ours.do("claim_among", pool="large", count=CLAIMS, users=10_000),
        lambda: ours.do("claim_among", pool="small", count=CLAIMS, users=500),
    )
    servers.empty()
    return row.judge(pairs, note=f"{depth['waiting']:,} of them in the line, the others beyond their user's share")


#: A house that has had this history counted its moves as they came, so they are counted already.
HISTORY = """
SET session_replication_role = replica;
SET synchronous_commit = off;
INSERT INTO generator_job ({columns})
    SELECT {values} FROM generator_job AS job, generate_series(1, {finished}) AS n WHERE job.id = '{like}';
INSERT INTO generator_job_transition (job_id, from_state, to_state, attempt, at)
    SELECT 'done-' || n, 'awaiting_review', 'completed', 1, now() - interval '1 day'
    FROM generate_series(1, {finished}) AS n;
INSERT INTO outbox (source, id, type, subject, time, data, told_at, retell_at)
    SELECT '/functions/review', 'done-' || n, 'completed', 'done-' || n, now(), '{{}}', now(), now()
    FROM generate_series(1, {finished}) AS n;
UPDATE generator_job SET state = 'queued', changed_at = now() - interval '1 minute' WHERE state = 'submitted';
UPDATE metric_bookmark SET folded = (SELECT max(id) FROM generator_job_transition),
    ceiling = (SELECT max(id) FROM generator_job_transition) WHERE origin = 'move';
ANALYZE
"""
#: As if ten minutes had passed: sweep looks at recent moves again for a while, and those above are made to be old.
LATER = "UPDATE queue_bookmark SET marked_at = marked_at - interval '10 minutes'"
LIVE = 1000
SWEEPS = 3  # a round


def sweep_growth(row: Measure, servers: Servers) -> Row:
    """A sweep that finds nothing to mend among a thousand live jobs, after a million finished ones and a thousand."""
    sweepers = {}
    for number, (database, finished) in enumerate((("short", 1000), ("long", MILLION))):
        url = servers.database(database)
        sweepers[database] = servers.python(
            "bench.actors.sweeping",
            DATABASE_URL=url.app_url,
            REDIS_URL=servers.redis_url.removesuffix("/0") + f"/{number}",
            K_SINK="http://127.0.0.1:9",  # nothing is told
        )
        like = sweepers[database].do("live", count=LIVE)
        columns = servers.columns("generator_job", url.admin_url)
        own = {"id": "'done-' || n", "state": "'completed'"}
        history = HISTORY.format(
            columns=", ".join(columns),
            values=", ".join(own.get(name, name) for name in columns),
            finished=finished,
            like=like,
        )
        servers.run_sql(history, url.admin_url)
        for _ in range(3):
            sweepers[database].do("sweep", times=1)  # what is new to it is compared and counted now
            servers.run_sql(LATER, url.admin_url)
    pairs = alternate(
        lambda: sweepers["long"].do("sweep", times=SWEEPS),
        lambda: sweepers["short"].do("sweep", times=SWEEPS),
    )
    return row.judge(pairs)


ROWS = [
    Measure(
        name="claim_growth",
        unit="us a claim",
        reference="with 1,000 waiting",
        goal=Goal(most=1.25),
        about="a claim with a million waiting",
        run=claim_growth,
    ),
    Measure(
        name="sweep_growth",
        unit="ms a sweep",
        reference="after 1,000 finished jobs",
        goal=Goal(most=1.5),
        about="a sweep with 1,000 live jobs after a million finished ones",
        run=sweep_growth,
    ),
]
