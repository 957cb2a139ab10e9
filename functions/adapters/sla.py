"""How long jobs take, phase by phase, from the moves of jobs and the reports of their runners.

One aggregate over an index on the moment of the moves: what comes back is one row a group and phase, and Postgres sorts
the rest, on disk where it must.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import Connection, text

from functions.domain.errors import Rejected

DIMENSIONS = ("tier", "pool", "tag", "day")
PHASES = ("wait", "prepare", "render", "upload", "total")
LONGEST = timedelta(days=92)
USUAL = timedelta(days=7)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One phase of the jobs of one group; what the report does not tell apart is None.

    phase: wait for a GPU, prepare, render, upload; total is from the asking to the pictures, and counts once a job.
    *_ms: percentiles by rank, each the time of a real job.
    target_s, met: the total's target, and the part of the jobs that kept to it; None where no tier has one. A group of
    several tiers holds each job to its own tier's target, and has no single one to name.
    """

    tier: str | None
    pool: str | None
    tag: str | None
    day: date | None
    phase: str
    jobs: int
    p50_ms: int
    p90_ms: int
    p95_ms: int
    p99_ms: int
    target_s: float | None = None
    met: float | None = None

    @property
    def ok(self) -> bool | None:
        """Whether 95 of 100 jobs kept to their target; None where there is none."""
        return None if self.met is None else self.met >= 0.95


@dataclass(frozen=True, kw_only=True)
class Span:
    """From `since` up to, and without, `until`."""

    since: datetime
    until: datetime

    @classmethod
    def of(cls, since: datetime | None, until: datetime | None, *, now: datetime) -> "Span":
        """The span asked for: the last seven days unless it is said otherwise; Rejected when it is none, or too long to
        be read in one go."""
        end = until or now
        begin = since or end - USUAL
        if not begin < end:
            raise Rejected("range_invalid", "the range must end after it begins", field="from")
        if end - begin > LONGEST:
            raise Rejected("range_too_long", f"ask for at most {LONGEST.days} days at once", field="from")
        return cls(since=begin, until=end)


REPORT = text("""
SELECT CASE WHEN CAST(:by_tier AS boolean) THEN sample.tier END AS tier,
       CASE WHEN CAST(:by_pool AS boolean) THEN sample.pool END AS pool,
       CASE WHEN CAST(:by_tag AS boolean) THEN coalesce(tag.name, '') END AS tag,
       CASE WHEN CAST(:by_day AS boolean) THEN (sample.at AT TIME ZONE 'UTC')::date END AS day,
       phase, count(*) AS jobs,
       percentile_disc(ARRAY[0.5, 0.9, 0.95, 0.99]) WITHIN GROUP (ORDER BY sample.ms) AS percentiles,
       avg((sample.ms <= target.ms)::integer) FILTER (WHERE phase = 'total') AS met
FROM generator_sla_phase AS sample
LEFT JOIN LATERAL jsonb_array_elements_text(sample.tags) AS tag (name) ON CAST(:by_tag AS boolean)
LEFT JOIN unnest(CAST(:tiers AS text[]), CAST(:targets_ms AS bigint[])) AS target (tier, ms)
       ON target.tier = upper(sample.tier)
WHERE sample.at >= :since AND sample.at < :until
GROUP BY 1, 2, 3, 4, phase
ORDER BY 4, 1, 2, 3, array_position(CAST(:phases AS text[]), phase)
""")


def report(tx: Connection, span: Span, *, by: Collection[str], targets_s: Mapping[str, float]) -> list[Line]:
    """The phases of all jobs whose move fell into the span, told apart by these dimensions; a job with several tags
    counts under each, one without under ''. Rejected when a dimension is none of DIMENSIONS."""
    for name in by:
        if name not in DIMENSIONS:
            raise Rejected("dimension_unknown", f"{name!r} is none of {', '.join(DIMENSIONS)}", field="by")
    asked = {f"by_{name}": name in by for name in DIMENSIONS} | {
        "since": span.since,
        "until": span.until,
        "phases": list(PHASES),
        "tiers": list(targets_s),
        "targets_ms": [round(seconds * 1000) for seconds in targets_s.values()],
    }
    lines = []
    for row in tx.execute(REPORT, asked):
        p50_ms, p90_ms, p95_ms, p99_ms = row.percentiles
        lines.append(
            Line(
                **{name: getattr(row, name) for name in (*DIMENSIONS, "phase", "jobs")},
                **{"p50_ms": p50_ms, "p90_ms": p90_ms, "p95_ms": p95_ms, "p99_ms": p99_ms},
                target_s=targets_s.get(row.tier.upper()) if row.tier and row.phase == "total" else None,
                met=None if row.met is None else round(float(row.met), 4),
            )
        )
    return lines
