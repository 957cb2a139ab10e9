"""vsgen storage, vsgen retention: how much is kept, and what is let go of by the clock."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from functions.adapters import cleanups, postgres, usage
from functions.adapters.cleanups import Run
from functions.ctl_say import Json, say, table
from functions.retention import retention

storage = typer.Typer(no_args_is_help=True, help="How much is stored.", rich_markup_mode=None)
retain = typer.Typer(no_args_is_help=True, help="What is let go of by the clock.", rich_markup_mode=None)
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@storage.command()
def report(
    users: Annotated[int, typer.Option(min=1, help="how many users, those with most first")] = 20,
    as_json: Json = False,
) -> None:
    """Storage by where pictures stand, by user and by age, and what identical pictures save."""
    with postgres.transaction() as tx:
        stored = usage.stored(tx)
        shares = {
            "by_standing": usage.by_standing(tx),
            "by_user": usage.by_user(tx, limit=users),
            "by_age": usage.by_age(tx, now=datetime.now(UTC)),
        }
    lines = [
        f"{stored.objects} objects, {_size(stored.bytes)}; identical pictures save {_size(stored.saved_bytes)}",
        f"{stored.freed_objects} objects, {_size(stored.freed_bytes)}, wait to be deleted; {stored.missing} missing",
    ]
    for title, found in shares.items():
        rows = [(one.name, one.pictures, _size(one.bytes)) for one in found]
        lines += ["", table((title.replace("_", " "), "pictures", "size"), [*rows])]
    record = {"stored": asdict(stored)} | {title: [asdict(one) for one in found] for title, found in shares.items()}
    say(record, as_json, "\n".join(lines))


@retain.command()
def run(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="count what would be done, and do nothing")] = False,
    minutes: Annotated[float, typer.Option(min=0.01, help="stop after so long; the next run goes on")] = 60.0,
    by: Annotated[str, typer.Option(help="who runs it, for the account")] = "an operator",
    as_json: Json = False,
) -> None:
    """Do what is due now, as each night. Twice at once is as good as once."""
    done = retention(by=by, dry_run=dry_run, limit_s=minutes * 60)
    say(asdict(done), as_json, _account(done))
    if done.problem:
        raise typer.Exit(1)


@retain.command()
def runs(
    limit: Annotated[int, typer.Option(min=1, help="how many at the most")] = 10,
    as_json: Json = False,
) -> None:
    """What the last runs did, and why; newest first."""
    with postgres.transaction() as tx:
        found = cleanups.latest(tx, limit=limit)
    say({"runs": [asdict(one) for one in found]}, as_json, "\n\n".join(map(_account, found)) or "it never ran")


def _account(run: Run) -> str:
    would = " (dry run: nothing was done)" if run.dry_run else ""
    ended = f"{(run.ended_at - run.began_at).total_seconds():.1f} s" if run.ended_at else "no end yet, or killed"
    lines = [f"run {run.number} by {run.by} at {run.began_at:%Y-%m-%d %H:%M} UTC, {ended}{would}"]
    rows = [(one.did, one.why, one.count, _size(one.bytes) if one.bytes else "") for one in run.done]
    lines.append(table(("did", "why", "count", "size"), [*rows]) if rows else "nothing was due")
    return "\n".join(lines + ([run.problem] if run.problem else []))


def _size(count: int) -> str:
    size, unit = float(count), 0
    while size >= 1024 and unit < len(UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {UNITS[unit]}" if unit == 0 else f"{size:.1f} {UNITS[unit]}"
