"""How long jobs take, and whether that is what was promised."""

from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel

from functions.adapters import postgres
from functions.adapters import sla as times
from functions.adapters.sla import Span
from functions.api.admin.role import Admin
from functions.api.problem import documented
from functions.config import config

router = APIRouter(prefix="/v1/admin/sla", tags=["admin"])


class LineView(BaseModel):
    """One phase of the jobs of one group; what the report does not tell apart is null. `total` is from the asking to
    the pictures. met: the part of the jobs that kept to the target of their tier; ok: at least 95 of 100."""

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
    target_s: float | None
    met: float | None
    ok: bool | None


class Report(BaseModel):
    """The span it covers, its end not included, and its lines."""

    since: datetime
    until: datetime
    by: list[str]
    lines: list[LineView]


@router.get("", responses=documented(403, 422))
def sla(
    actor: Admin,
    since: Annotated[AwareDatetime | None, Query(alias="from", description="default: seven days before `to`")] = None,
    until: Annotated[AwareDatetime | None, Query(alias="to", description="not included; default: now")] = None,
    by: Annotated[str, Query(max_length=100, description="tier, pool, tag, day: comma-separated")] = "tier",
) -> Report:
    """Percentiles of every phase for the jobs whose moves fell into this span, at most 92 days."""
    span = Span.of(since, until, now=datetime.now(UTC))
    dimensions = [name.strip() for name in by.split(",") if name.strip()]
    with postgres.transaction() as tx:
        lines = times.report(tx, span, by=dimensions, targets_s=config().sla_targets_s)
    told = [LineView(**vars(line), ok=line.ok) for line in lines]
    return Report(since=span.since, until=span.until, by=dimensions, lines=told)
