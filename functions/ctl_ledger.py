"""vsgen ledger: the book as a whole: whether it is right, what it says, and whether jobs and credits agree."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from functions.adapters import ledger_verify, postgres, reconciliation, snapshots
from functions.ctl_say import Json, minute, say, table

app = typer.Typer(no_args_is_help=True, help=__doc__, rich_markup_mode=None)


@app.command()
def verify(as_json: Json = False) -> None:
    """Compute every account's chain and balance anew from its rows, and the sum of all. Exit code 1 when anything is
    wrong; each broken account's first wrong row is named."""
    walk = ledger_verify.Walk()
    with postgres.transaction() as tx:
        found = list(walk.findings(tx))
    lines = [f"{one.account}: {one.id or 'no row'}{_at(one.at)}: {one.detail}" for one in found]
    if walk.imbalance:
        lines.append(f"all accounts hold {walk.imbalance:+} together, and should hold nothing")
    wrong = bool(lines)
    lines.append(
        f"{walk.transfers} transfers of {walk.accounts} accounts looked at: {'WRONG' if wrong else 'all right'}"
    )
    record = {"ok": not wrong, "findings": [asdict(one) for one in found], **asdict(walk)}
    say(record, as_json, "\n".join(lines))
    if wrong:
        raise typer.Exit(1)


@app.command()
def export(
    out: Annotated[Path | None, typer.Option(help="the file to write; absent: stdout", dir_okay=False)] = None,
) -> None:
    """The whole ledger at one instant as JSON lines, closed by a line with counts, sum and SHA-256."""
    if out is None:
        for line in snapshots.export():
            typer.echo(line, nl=False)
        return
    unfinished = out.with_name(f"{out.name}.unfinished")
    last = ""
    with unfinished.open("w", encoding="utf-8") as file:
        for line in snapshots.export():
            file.write(line)
            last = line
    unfinished.rename(out)
    typer.echo(last, nl=False)


@app.command()
def reconcile(
    days: Annotated[int | None, typer.Option(min=1, help="only what moved in the last so many days")] = None,
    as_json: Json = False,
) -> None:
    """Compare jobs with transfers and transfers with jobs and grants. Exit code 1 when they do not agree; every
    discrepancy is named."""
    since = datetime.now(UTC) - timedelta(days=days) if days else None
    found = reconciliation.report(since=since)
    counts, walked = found.counts, found.walked
    rows: list[tuple[object, ...]] = [
        (one.kind, one.job_id or one.transfer_id or one.grant_id, minute(one.at), one.detail) for one in found.told
    ]
    lines = [table(("discrepancy", "of", "at", "what is there"), rows)] if rows else []
    lines += [f"{count} {kind}: {reconciliation.MEANING[kind]}" for kind, count in sorted(counts.items())]
    verdict = f"{counts.total()} discrepancies" if counts else "they agree"
    lines.append(f"{walked.jobs} jobs and {walked.transfers} transfers compared: {verdict}")
    record = {
        "ok": not counts,
        **asdict(walked),
        "counts": counts,
        "discrepancies": [asdict(one) for one in found.told],
    }
    say(record, as_json, "\n".join(lines))
    if counts:
        raise typer.Exit(1)


def _at(moment: datetime | None) -> str:
    return f" ({minute(moment)})" if moment else ""
