"""vsgen sla: how long jobs take, and whether that is what was promised."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from functions.adapters import postgres
from functions.adapters import sla as times
from functions.adapters.sla import Line, Span
from functions.config import config
from functions.ctl_say import Json, say, table

From = Annotated[datetime | None, typer.Option("--from", help="UTC; default: seven days before --to")]
To = Annotated[datetime | None, typer.Option("--to", help="UTC, not included; default: now")]
By = Annotated[str, typer.Option(help="what to tell apart: tier, pool, tag, day, comma-separated")]
Csv = Annotated[bool, typer.Option("--csv", help="one line a group and phase, for a spreadsheet")]


def sla(from_: From = None, to: To = None, by: By = "tier", as_json: Json = False, as_csv: Csv = False) -> None:
    """Percentiles of wait, preparation, render, upload and the whole way, and how many jobs kept to SLA_TARGETS."""
    span = Span.of(_utc(from_), _utc(to), now=datetime.now(UTC))
    dimensions = [name.strip() for name in by.split(",") if name.strip()]
    with postgres.transaction() as tx:
        lines = times.report(tx, span, by=dimensions, targets_s=config().sla_targets_s)
    if as_csv:
        typer.echo(_csv(lines), nl=False)
        return
    record = {"from": span.since, "to": span.until, "by": dimensions, "lines": [_record(line) for line in lines]}
    say(record, as_json, _text(lines, dimensions) if lines else "no job was done in this time")


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


def _record(line: Line) -> dict[str, Any]:
    return asdict(line) | {"ok": line.ok}


def _csv(lines: Sequence[Line]) -> str:
    sheet = io.StringIO()
    names = [*(field.name for field in fields(Line)), "ok"]
    writer = csv.DictWriter(sheet, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_record(line) for line in lines)
    return sheet.getvalue()


def _text(lines: Sequence[Line], dimensions: Sequence[str]) -> str:
    head = (*dimensions, "phase", "jobs", "p50 s", "p90 s", "p95 s", "p99 s", "target s", "kept to it")
    rows: list[tuple[object, ...]] = [
        (
            *("" if (cell := getattr(line, name)) is None else cell for name in dimensions),
            *(line.phase, line.jobs),
            *(f"{ms / 1000:.1f}" for ms in (line.p50_ms, line.p90_ms, line.p95_ms, line.p99_ms)),
            "" if line.target_s is None else f"{line.target_s:g}",
            "" if line.met is None else f"{line.met:.1%}",
        )
        for line in lines
    ]
    return table(head, rows)
