"""vsgen queue: what waits where, what operators have ordered, and what goes on.

Orders stand until they are taken back, whatever is started anew meanwhile. Each is written down with who gave it, when
and why: `vsgen queue acts`.
"""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from functions import operate
from functions.adapters import acts as records
from functions.adapters import audit, postgres
from functions.adapters.audit import Entry
from functions.config import config
from functions.ctl_say import Json, age, minute, say, table
from functions.operate import Pool

app = typer.Typer(no_args_is_help=True, help=__doc__, rich_markup_mode=None)

Pools = Annotated[list[str] | None, typer.Argument(help="pools by their name", show_default=False)]
All = Annotated[bool, typer.Option("--all", help="every pool")]
Why = Annotated[str, typer.Option("--reason", help="why; users and colleagues will ask", show_default=False)]
Reason = Annotated[str, typer.Option(help="kept with the act")]
User = Annotated[str, typer.Argument(help="the user's id", show_default=False)]
SETS = ("waiting", "leased", "delayed", "held", "parked")


@app.command()
def show(as_json: Json = False) -> None:
    """Every pool with its jobs by where they stand, and the orders that stand."""
    pools, blocked = operate.pools(), operate.blocked()
    head = ("pool", "mode", *SETS, "most workers", "ordered by", "since", "reason")
    rows: list[tuple[object, ...]] = [
        (
            *(pool.spec.name, _mode(pool), *(pool.depth[name] for name in SETS), pool.spec.max_workers),
            *((pool.order.by, minute(pool.order.at), pool.order.reason) if pool.order else ("", "", "")),
        )
        for pool in pools
    ]
    text = table(head, rows)
    if blocked:
        users: list[tuple[object, ...]] = [(one.user_id, one.by, minute(one.at), one.reason) for one in blocked]
        text += "\n\n" + table(("blocked user", "by", "since", "reason"), users)
    record = {"pools": [_record(pool) for pool in pools], "blocked": [asdict(one) for one in blocked]}
    say(record, as_json, text)


@app.command()
def pause(reason: Why, pools: Pools = None, all_: All = False, as_json: Json = False) -> None:
    """Let nothing be claimed from these pools. What runs goes on, new jobs wait, and no GPU is started for them."""
    names = _names(pools, all_)
    operate.pause(names, by=config().operator_name, reason=reason)
    say({"paused": names}, as_json, f"paused: {', '.join(names)}")


@app.command()
def drain(reason: Why, pools: Pools = None, all_: All = False, as_json: Json = False) -> None:
    """Pause these pools, and let new jobs go to another that fits, or be refused."""
    names = _names(pools, all_)
    operate.drain(names, by=config().operator_name, reason=reason)
    say({"draining": names}, as_json, f"draining: {', '.join(names)}")


@app.command()
def resume(pools: Pools = None, all_: All = False, reason: Reason = "", as_json: Json = False) -> None:
    """Let these pools work again; everything stands where it stood."""
    names = _names(pools, all_)
    operate.resume(names, by=config().operator_name, reason=reason)
    say({"resumed": names}, as_json, f"resumed: {', '.join(names)}")


@app.command()
def block(user_id: User, reason: Why, as_json: Json = False) -> None:
    """Hold what this user has waiting, and refuse what they ask for. What runs goes on."""
    operate.block(user_id, by=config().operator_name, reason=reason)
    say({"blocked": user_id}, as_json, f"blocked: {user_id}")


@app.command()
def unblock(user_id: User, reason: Reason = "", as_json: Json = False) -> None:
    """Let this user's jobs wait like anybody's, at the places they had."""
    operate.unblock(user_id, by=config().operator_name, reason=reason)
    say({"unblocked": user_id}, as_json, f"unblocked: {user_id}")


@app.command()
def acts(
    limit: Annotated[int, typer.Option(min=1, help="how many at the most")] = 50,
    before: Annotated[int | None, typer.Option(help="only those before this number")] = None,
    as_json: Json = False,
) -> None:
    """Who did what to what, when and why: the latest first."""
    with postgres.transaction() as tx:
        found = records.latest(tx, before=before, limit=limit)
    rows: list[tuple[object, ...]] = [
        (one.number, minute(one.at), one.by, one.act, one.subject, one.reason) for one in found
    ]
    text = table(("number", "at", "by", "act", "to", "reason"), rows) if rows else "nobody has done anything"
    say({"acts": [asdict(one) for one in found]}, as_json, text)


@app.command()
def watch(
    since: Annotated[str | None, typer.Option(help="begin so long ago: 5m, 2h; default: now")] = None,
    job: Annotated[str | None, typer.Option(help="only what is told of this job")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="end after so many lines; default: with Ctrl-C")] = None,
    as_json: Json = False,
) -> None:
    """Every event and every act as it happens, without prompts; with --json one JSON object a line."""
    seen = 0
    try:
        for entry in audit.follow(since=age(since) if since else None):
            if entry is None or (job and entry.about.get("job_id") != job):
                continue
            typer.echo(_line(entry, as_json))
            seen += 1
            if seen == count:
                return
    except KeyboardInterrupt:
        return


def _line(entry: Entry, as_json: bool) -> str:
    if as_json:
        return json.dumps({"at": entry.at.isoformat(), "name": entry.name} | dict(entry.about))
    told = " ".join(f"{name}={value}" for name, value in entry.about.items() if name != "job_id")
    return f"{entry.at:%H:%M:%S.%f}"[:-3] + f"  {entry.name:24} {entry.about.get('job_id', '')}  {told}".rstrip()


def _names(pools: list[str] | None, all_: bool) -> list[str]:
    """The pools given, or all of them; saying nothing chooses nothing."""
    if bool(pools) == all_:
        raise typer.BadParameter("give pools, or --all")
    return pools or list(config().pool_names)


def _mode(pool: Pool) -> str:
    """The order that stands, or why nothing is claimed without one."""
    return pool.mode if pool.order or not pool.closed else f"closed: {', '.join(sorted(pool.closed))}"


def _record(pool: Pool) -> dict[str, Any]:
    return {
        "pool": pool.spec.name,
        "mode": pool.mode,
        "closed": sorted(pool.closed),
        "order": asdict(pool.order) if pool.order else None,
        "max_workers": pool.spec.max_workers,
        **pool.depth,
    }
