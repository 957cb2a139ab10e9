"""What operators measure, read from Postgres by bounded, indexed queries; and the running totals that keep them so.

Counters come from the truth, so a function that sleeps, dies or runs twice loses none. `migrations/0006_totals.sql`
says how totals and bookmarks work; `fold` is sweep's part of it, `totals` the reader's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from functions.adapters import estimates

#: Upper bounds of the phases' histogram, ms. The same stand in `metric_bucket`.
BOUNDS_MS = (1000, 2500, 5000, 10000, 20000, 30000, 60000, 120000, 300000, 600000, 1800000, 3600000)
#: Rows looked at where there is no end to them; a gauge of more than this says all it has to say.
MOST = 10_000
#: Rows folded at once: a sweep that was away for long catches up in steps.
STEP = 50_000
RENDERS = 200  # the latest that the pace, the memory and the GPUs are learned from

GLIMPSE = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
HURRY = text("SET LOCAL statement_timeout = '4s'")


def glimpse(tx: Connection) -> None:
    """Let everything this transaction reads be of one instant, and nothing in it keep a scrape waiting: Prometheus
    gives it ten seconds in all."""
    tx.execute(GLIMPSE)
    tx.execute(HURRY)


LATEST = text("""
SELECT (SELECT max(id) FROM generator_job_transition) AS move,
       (SELECT max(number) FROM generator_credit_transaction) AS transfer
""")
BOOKMARKS = text("""
SELECT origin, folded, ceiling, ceiling_xid <= pg_snapshot_xmin(pg_current_snapshot()) AS settled,
       ceiling_xid > pg_current_xact_id() AS foreign_xid
FROM metric_bookmark ORDER BY origin FOR UPDATE SKIP LOCKED
""")
FOLD = text("""
INSERT INTO metric_total (name, labels, value)
SELECT name, labels, sum(value) FROM metric_fact
WHERE origin = :origin AND number > :folded AND number <= :ceiling
GROUP BY name, labels
ON CONFLICT (name, labels) DO UPDATE SET value = metric_total.value + excluded.value
""")
TURN = text("""
UPDATE metric_bookmark SET folded = :folded, ceiling = :ceiling, ceiling_xid = pg_current_xact_id()
WHERE origin = :origin
""")


def fold(tx: Connection) -> int:
    """Add settled rows to the totals, learn from them what estimates need, and mark what may be added next time; gives
    how many numbers that was.

    The latest numbers are read before this transaction has an id of its own: whoever drew a lower one is older than it.
    A ceiling marked by a later transaction than ours was marked in another cluster, and is marked anew.
    """
    latest = tx.execute(LATEST).one()._mapping
    folded = 0
    for mark in tx.execute(BOOKMARKS).all():
        if not (mark.settled or mark.foreign_xid):
            continue
        done = mark.ceiling if mark.settled else mark.folded
        ceiling = max(done, min(latest[mark.origin] or 0, done + STEP))
        if done > mark.folded:
            tx.execute(FOLD, {"origin": mark.origin, "folded": mark.folded, "ceiling": done})
            if mark.origin == "move":
                estimates.learn(tx, after=mark.folded, upto=done)
        if (done, ceiling) != (mark.folded, mark.ceiling) or mark.foreign_xid:
            tx.execute(TURN, {"origin": mark.origin, "folded": done, "ceiling": ceiling})
        folded += done - mark.folded
    return folded


# Where the bookmarks stand is read first and handed over as numbers: a planner that knows them takes the few rows above
# by index, one that has to guess reads the whole table.
FOLDED = text("SELECT origin, folded FROM metric_bookmark")
TOTALS = text("""
SELECT name, labels, sum(value)::bigint AS value FROM (
    SELECT name, labels, value FROM metric_total
    UNION ALL
    SELECT name, labels, value FROM metric_fact WHERE origin = 'move' AND number > :move
    UNION ALL
    SELECT name, labels, value FROM metric_fact WHERE origin = 'transfer' AND number > :transfer
) AS counted GROUP BY name, labels
""")
Totals = dict[str, dict[tuple[str, ...], int]]


def totals(tx: Connection) -> Totals:
    """Every total as it is this instant: name -> labels -> value. Begin with `glimpse`, or a row may be missed."""
    folded = {origin: number for origin, number in tx.execute(FOLDED)}
    found: Totals = {}
    for name, labels, value in tx.execute(TOTALS, folded):
        found.setdefault(name, {})[tuple(labels)] = value
    return found


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """The front of a pool's queue. oldest_at: since when the first of those that could be claimed waits. work: mean
    megapixel-steps of a job."""

    pool: str
    oldest_at: datetime | None
    work: float


WAITING = text("""
SELECT pool, min(since) FILTER (WHERE since <= now()) AS oldest_at, avg(work) AS work
FROM unnest(CAST(:pools AS text[])) AS asked (name)
CROSS JOIN LATERAL (
    SELECT pool, since, work FROM metric_waiting WHERE pool = asked.name ORDER BY changed_at LIMIT 1000
) AS front
GROUP BY pool
""")


def waiting(tx: Connection, pools: Sequence[str]) -> list[Waiting]:
    """What the longest waiting thousand of each pool tell of its queue; pools where none waits are left out."""
    return [Waiting(**row._mapping) for row in tx.execute(WAITING, {"pools": list(pools)})]


PACE = text("""
SELECT pool, sum(ms) / 1000.0 / nullif(sum(work), 0) AS seconds
FROM (SELECT pool, ms, work FROM metric_render ORDER BY number DESC LIMIT :renders) AS latest GROUP BY pool
""")


def pace(tx: Connection) -> dict[str, float]:
    """Seconds a megapixel-step took in the latest renders, by pool; a pool that has not rendered lately is left out."""
    return {pool: seconds for pool, seconds in tx.execute(PACE, {"renders": RENDERS}) if seconds is not None}


MEMORY = text("""
SELECT DISTINCT ON (pool) pool, vram_total_bytes, vram_free_bytes
FROM (
    SELECT pool, number, vram_total_bytes, vram_free_bytes FROM metric_render ORDER BY number DESC LIMIT :renders
) AS latest
WHERE vram_total_bytes > 0 ORDER BY pool, number DESC
""")


def memory(tx: Connection) -> dict[str, tuple[int, int]]:
    """GPU memory after each pool's last render, total and free, in bytes; a pool that has not rendered lately, or whose
    ComfyUI did not say, is left out."""
    return {pool: (total, free) for pool, total, free in tx.execute(MEMORY, {"renders": RENDERS})}


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU as the runner of its last render told of it; what it did not tell is None."""

    pool: str
    node: str
    gpu: str
    gpu_utilisation_percent: float | None
    gpu_temperature_c: int | None
    gpu_errors: int | None


GPUS = text("""
SELECT DISTINCT ON (pool, node, gpu) pool, node, gpu, gpu_utilisation_percent, gpu_temperature_c, gpu_errors
FROM (
    SELECT number, pool, at, node, gpu, gpu_utilisation_percent, gpu_temperature_c, gpu_errors
    FROM metric_render ORDER BY number DESC LIMIT :renders
) AS latest
WHERE gpu IS NOT NULL AND at > now() - interval '1 hour'
ORDER BY pool, node, gpu, number DESC
""")


def gpus(tx: Connection) -> list[Gpu]:
    """Every GPU that has rendered within the hour, if it is among those of the latest renders, and its ComfyUI told."""
    return [Gpu(**row._mapping) for row in tx.execute(GPUS, {"renders": RENDERS})]


UNTOLD = text("""
SELECT count(*) AS count, min(time) AS oldest_at
FROM (SELECT time FROM outbox WHERE told_at IS NULL LIMIT :most) AS untold
""")


def untold(tx: Connection) -> tuple[int, datetime | None]:
    """How many events nobody has heard yet, and when the oldest was to be told; counts to ten thousand."""
    count, oldest_at = tx.execute(UNTOLD, {"most": MOST}).one()
    return count, oldest_at


OPEN = text("""
SELECT destination, count(*) FROM (
    SELECT destination FROM dead_letter WHERE replayed_at IS NULL AND dropped_at IS NULL LIMIT :most
) AS open GROUP BY destination
""")


def open_dead_letters(tx: Connection) -> dict[str, int]:
    """How many dead letters wait for an operator, by who could not take them; counts to ten thousand in all."""
    return {destination: count for destination, count in tx.execute(OPEN, {"most": MOST})}


BALANCES = text("SELECT coalesce(sum(balance), 0) FROM generator_credit_account WHERE balance IS NOT NULL")


DISCREPANCIES = text("SELECT kind, count FROM metric_discrepancy")


def discrepancies(tx: Connection) -> dict[str, int]:
    """What does not agree among the latest jobs and transfers, by its name (`adapters/reconciliation.py`)."""
    return {kind: count for kind, count in tx.execute(DISCREPANCIES)}


GRANTED = text("SELECT coalesce(max(credits), 0) FROM metric_granted")


def most_granted(tx: Connection) -> int:
    """The most that admins gave one account within the last 24 hours, in credits."""
    return int(tx.execute(GRANTED).scalar_one())


def held(tx: Connection) -> int:
    """What users and teams hold together, in credits. Reads one row an account."""
    return int(tx.execute(BALANCES).scalar_one())


def imbalance(tx: Connection) -> int:
    """What all accounts hold together, in credits: zero, or the book is wrong. Reads one row a user; begin with
    `glimpse`."""
    [system] = totals(tx).get("system_accounts", {(): 0}).values()
    return held(tx) + system
