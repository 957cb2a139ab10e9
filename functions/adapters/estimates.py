"""What renders and waits have taught, kept in Postgres: a few rows to read for an estimate, a few to write a lesson.

`migrations/0008_estimates.sql` says what each kind is. Learning is sweep's, in the transaction that folds the same
moves into the totals (`adapters/measures.py`), so that each is learned from once.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, text

from functions.config import config
from functions.domain import estimate
from functions.domain.estimate import ENOUGH, WINDOW, Known, Learned

#: Moves learned from at once: a window holds no more anyway.
LATEST = 5 * WINDOW
#: Moves looked back, to find the claim before the first new one.
BACK = 500
ALL = ""
Key = tuple[str, str, str]  # pool, class, kind


def workflow_class(workflow_id: str, model: str) -> str:
    """The narrowest class of a render. A workflow's id has no slash, a model's name may."""
    return f"{workflow_id}/{model}"


PACE = text("""
SELECT class, p50, seen FROM generator_estimate
WHERE pool = :pool AND class = ANY(CAST(:classes AS text[])) AND kind = 'pace'
""")


def cost_ms(tx: Connection, *, pool: str, workflow_id: str, model: str, work: float) -> int:
    """What this much work is expected to take of a GPU of the pool, ms, at least 1; before anything is learned,
    ASSUMED_MS_PER_MEGAPIXEL_STEP says. One read of at most three rows by their key."""
    classes = [workflow_class(workflow_id, model), workflow_id, ALL]
    rows = {row[0]: (row[1], row[2]) for row in tx.execute(PACE, {"pool": pool, "classes": classes})}
    known = [rows[name][0] for name in classes if name in rows and (rows[name][1] >= ENOUGH or name == ALL)]
    return max(1, round(work * (known[0] if known else config().assumed_ms_per_megapixel_step)))


KNOWN = text("""
SELECT pool, class, kind, p50, p90, mean, seen FROM generator_estimate
WHERE pool = ANY(CAST(:pools AS text[])) AND class = ANY(CAST(:classes AS text[]))
""")


def known(
    tx: Connection, pools: Sequence[str], *, role: str, workflow_id: str = ALL, model: str = ALL
) -> dict[str, Known]:
    """What is known of each pool, for somebody of this role and, where they are given, for this workflow and model. At
    most some dozen rows a pool, by their key."""
    classes = [workflow_class(workflow_id, model), workflow_id, role.upper(), ALL]
    rows: dict[Key, Learned] = {
        (row.pool, row[1], row.kind): Learned(p50=row.p50, p90=row.p90, mean=row.mean, seen=row.seen)
        for row in tx.execute(KNOWN, {"pools": list(pools), "classes": classes})
    }
    assumed = estimate.assumed(work_ms=config().assumed_ms_per_megapixel_step, start_ms=config().assumed_start_s * 1000)
    return {
        pool: Known(
            **{
                kind: _narrowest([rows.get((pool, name, kind)) for name in classes]) or getattr(assumed, kind)
                for kind in vars(assumed)
            }
        )
        for pool in pools
    }


def _narrowest(found: Sequence[Learned | None]) -> Learned | None:
    """The first that has seen enough to be believed; else the widest there is."""
    there = [one for one in found if one is not None]
    return next((one for one in there if one.seen >= ENOUGH), there[-1] if there else None)


RENDERS = text("""
SELECT pool, workflow_id, model, work, render_ms, overhead_ms FROM (
    SELECT * FROM generator_render_lesson WHERE number > :after AND number <= :upto ORDER BY number DESC LIMIT :latest
) AS lesson WHERE work > 0 AND render_ms >= 0 AND overhead_ms >= 0 ORDER BY number
""")
WAITS = text("""
SELECT pool, role, wait_p50_ms, wait_p90_ms, wait_raw_ms, waited_ms FROM (
    SELECT * FROM generator_wait_lesson WHERE number > :after AND number <= :upto ORDER BY number DESC LIMIT :latest
) AS lesson ORDER BY number
""")
TURNS = text("""
SELECT pool, greatest(0, extract(epoch FROM at - before_at) * 1000)::float8 AS gap_ms FROM (
    SELECT number, pool, at, queued_at, lag(at) OVER (PARTITION BY pool ORDER BY number) AS before_at
    FROM generator_claim_lesson WHERE number > :back AND number <= :upto
) AS claim WHERE number > :after AND queued_at <= before_at ORDER BY number
""")
KEPT = text("""
SELECT pool, class, kind, latest, seen FROM generator_estimate
JOIN unnest(CAST(:pools AS text[]), CAST(:classes AS text[]), CAST(:kinds AS text[])) AS asked (pool, class, kind)
USING (pool, class, kind) FOR UPDATE OF generator_estimate
""")
KEEP = text("""
INSERT INTO generator_estimate (pool, class, kind, latest, p50, p90, mean, seen)
VALUES (:pool, :class, :kind, CAST(:latest AS float8[]), :p50, :p90, :mean, :seen)
ON CONFLICT (pool, class, kind) DO UPDATE
SET latest = excluded.latest, p50 = excluded.p50, p90 = excluded.p90, mean = excluded.mean, seen = excluded.seen,
    learned_at = now()
""")
TALLY = text("""
INSERT INTO metric_total (name, labels, value) VALUES ('wait_estimates', ARRAY[:pool, :outcome], :count)
ON CONFLICT (name, labels) DO UPDATE SET value = metric_total.value + excluded.value
""")


def learn(tx: Connection, *, after: int, upto: int) -> int:
    """Learn from the moves numbered above `after` up to `upto`, once; gives from how many. The caller holds the
    bookmark of these moves, so nobody else learns meanwhile."""
    span = {"after": after, "upto": upto, "latest": LATEST}
    lessons: dict[Key, list[float]] = {}
    tally: dict[tuple[str, str], int] = {}
    count = 0
    for pool, workflow_id, model, work, render_ms, overhead_ms in tx.execute(RENDERS, span):
        count += 1
        for name in (ALL, workflow_id, workflow_class(workflow_id, model)):
            lessons.setdefault((pool, name, "pace"), []).append(render_ms / work)
        lessons.setdefault((pool, ALL, "overhead"), []).append(overhead_ms)
        lessons.setdefault((pool, ALL, "hold"), []).append(render_ms + overhead_ms)
    # Only where the job had waited since before the claim before it does the gap tell how fast the line is served.
    for pool, gap_ms in tx.execute(TURNS, span | {"back": max(after - BACK, upto - 6 * LATEST)}):
        lessons.setdefault((pool, ALL, "turn"), []).append(gap_ms * max(1, config().workers(pool)))
    for pool, role, p50_ms, p90_ms, raw_ms, waited_ms in tx.execute(WAITS, span):
        count += 1
        if raw_ms:
            for name in (ALL, role.upper()):
                lessons.setdefault((pool, name, "slack"), []).append(waited_ms / raw_ms)
        else:
            lessons.setdefault((pool, ALL, "start"), []).append(waited_ms)
        lessons.setdefault((pool, ALL, "error"), []).append(abs(waited_ms - p50_ms))
        lessons.setdefault((pool, ALL, "covered"), []).append(float(waited_ms <= p90_ms))
        outcome = "sooner" if waited_ms <= p50_ms else "within" if waited_ms <= p90_ms else "later"
        tally[pool, outcome] = tally.get((pool, outcome), 0) + 1
    _keep(tx, lessons)
    for (pool, outcome), number in sorted(tally.items()):
        tx.execute(TALLY, {"pool": pool, "outcome": outcome, "count": number})
    return count


def _keep(tx: Connection, lessons: Mapping[Key, Sequence[float]]) -> None:
    if not lessons:
        return
    order = sorted(lessons)
    pools, classes, kinds = (list(part) for part in zip(*order, strict=True))
    kept = {
        (row.pool, row[1], row.kind): (tuple(row.latest), int(row.seen))
        for row in tx.execute(KEPT, {"pools": pools, "classes": classes, "kinds": kinds})
    }
    for key in order:
        latest, seen = kept.get(key, ((), 0))
        learned = Learned.of((*latest, *lessons[key]), seen=seen + len(lessons[key]))
        pool, name, kind = key
        tx.execute(KEEP, vars(learned) | {"pool": pool, "class": name, "kind": kind, "latest": list(learned.latest)})


OLDEST = text("""
SELECT asked.pool, (
    SELECT min(greatest(changed_at, run_at)) FROM (
        SELECT changed_at, run_at FROM generator_job
        WHERE state = 'queued' AND generator_job.pool = asked.pool ORDER BY changed_at LIMIT :few
    ) AS front WHERE run_at IS NULL OR run_at <= now()
) AS since
FROM unnest(CAST(:pools AS text[])) AS asked (pool)
""")
FEW = 50


def oldest_waits(tx: Connection, pools: Iterable[str]) -> dict[str, datetime]:
    """Since when the longest waiting job of each pool could have been claimed; pools where none waits are left out."""
    rows = tx.execute(OLDEST, {"pools": list(pools), "few": FEW})
    return {pool: since for pool, since in rows if since is not None}


ACCURACY = text("""
SELECT pool, kind, p50, mean FROM generator_estimate
WHERE pool = ANY(CAST(:pools AS text[])) AND class = '' AND kind IN ('error', 'covered')
""")


def accuracy(tx: Connection, pools: Iterable[str]) -> tuple[dict[str, float], dict[str, float]]:
    """How good the latest estimates were, by pool: the share of waits that ended within them, and their median error in
    seconds; pools that have had none are left out."""
    rows = list(tx.execute(ACCURACY, {"pools": list(pools)}))
    covered = {row.pool: row.mean for row in rows if row.kind == "covered"}
    return covered, {row.pool: row.p50 / 1000 for row in rows if row.kind == "error"}
