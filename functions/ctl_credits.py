"""vsgen credits: what accounts hold and why, and what admins give and take.

Whoever gives or takes is the admin whose token is in ADMIN_TOKEN.
"""

import hashlib
import time
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from functions import ctl_team_pools
from functions.adapters import adjustments, grants, ledger, postgres, statements
from functions.adapters.grants import Admin
from functions.config import config
from functions.ctl_admin import asking
from functions.ctl_say import Json, ledger_table, minute, say, table
from functions.domain import adjustment
from functions.domain.adjustment import Outcome, Result
from functions.domain.errors import InsufficientCredits
from functions.domain.grant import Grant, Kind, Standing
from functions.domain.statement import as_csv
from functions.domain.transfer import account

app = typer.Typer(no_args_is_help=True, help=__doc__, rich_markup_mode=None)
app.add_typer(ctl_team_pools.app, name="pool")
PATIENCE_S = 10  # a stack that is well carries a grant out within a second

Who = Annotated[str, typer.Argument(metavar="USER", help="a user's id, or pool:<id> for a team's account")]
Credits = Annotated[int, typer.Argument(min=1, help="whole credits")]
Reason = Annotated[str, typer.Option(help="why, for the statement and whoever audits it")]
GrantId = Annotated[str, typer.Argument(metavar="GRANT", help="the grant's id")]


@app.command()
def balance(who: Who, as_json: Json = False) -> None:
    """What an account holds, and what is in jobs that are paid for and not done."""
    name = _account(who)
    with postgres.transaction() as tx:
        held, holds = ledger.balance(tx, name), statements.holds(tx, name)
    under_way = sum(one.credits for one in holds)
    lines = [f"{who} holds {held} credits" + (f"; {under_way} more are in {len(holds)} jobs:" if holds else "")]
    lines += [f"  {one.job_id}  {one.credits}  {one.state} since {minute(one.submitted_at)}" for one in holds]
    record = {"account": name, "balance": held, "held": under_way, "holds": [asdict(one) for one in holds]}
    say(record, as_json, "\n".join(lines))


@app.command()
def statement(
    who: Who,
    limit: Annotated[int, typer.Option(min=1, help="how many of the latest lines")] = 20,
    csv: Annotated[bool, typer.Option("--csv", help="all lines as CSV, newest first")] = False,
    member: Annotated[str | None, typer.Option(help="of a team's account: what this member has spent")] = None,
    as_json: Json = False,
) -> None:
    """What moved on an account, when and why, each line with the balance it left; the latest is the last."""
    name = _account(who)
    if csv:
        for row in as_csv(statements.every(name, member=member)):
            typer.echo(row, nl=False)
        return
    latest = list(islice(statements.every(name, member=member), limit + 1))
    with postgres.transaction() as tx:
        held = ledger.balance(tx, name)
    more, lines = len(latest) > limit, latest[:limit]
    rows = [(minute(one.at), one.change, one.balance, one.about) for one in reversed(lines)]
    text = ledger_table(rows) if rows else "nothing has moved yet"
    said = f"... and more before: raise --limit\n{text}" if more else text
    record = {
        "account": name,
        "balance": held,
        "lines": [asdict(one) | {"about": one.about} for one in lines],
        "more": more,
    }
    say(record, as_json, f"{said}\n{who} holds {held} credits")


@app.command()
def grant(who: Who, credits: Credits, reason: Reason, as_json: Json = False) -> None:
    """Give new credits. Above GRANT_LIMIT_CREDITS, and to yourself, they wait for a second admin's `approve`."""
    _ask(who, credits, Kind.GRANT, reason, as_json)


@app.command()
def welcome(
    who: Who,
    credits: Annotated[int, typer.Argument(min=1, help="whole credits")] = 500,
    as_json: Json = False,
) -> None:
    """Give a trial's user something to begin with, once, in no admin's name: for a login that may both write a grant
    down and post it, as the one for all functions may."""
    installer = Admin(user_id="installation", instruction="welcome")
    name = _account(who)
    once = f"welcome-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    with postgres.transaction() as tx:
        given = grants.give(tx, installer, name.partition(":")[2], credits, id=once, reason="welcome") is not None
        held = ledger.balance(tx, name)
    text = f"{who} holds {held} credits" if given else f"{who} was welcomed before, and holds {held} credits"
    say({"account": name, "given": given, "balance": held}, as_json, text)


@app.command()
def revoke(
    who: Who,
    credits: Credits,
    reason: Reason,
    up_to: Annotated[bool, typer.Option("--up-to", help="take what is there, if it is less")] = False,
    as_json: Json = False,
) -> None:
    """Take credits back. An account never goes below zero: what is not there is refused, or left with --up-to."""
    with postgres.transaction() as tx:
        held = ledger.balance(tx, _account(who))
    if held < credits and not (up_to and held):
        raise InsufficientCredits(_account(who), balance=held, needed=credits)
    _ask(who, -min(credits, held), Kind.REVOCATION, reason, as_json)


def _ask(who: str, amount: int, kind: Kind, reason: str, as_json: bool) -> None:
    by = _asking()
    with postgres.transaction() as tx:
        asked = grants.ask(tx, by, account_=_account(who), amount=amount, kind=kind, reason=reason)
    assert asked  # noqa: S101  its id is new
    _tell(_settled(asked), as_json)


@app.command()
def approve(grant_id: GrantId, as_json: Json = False) -> None:
    """Agree to what another admin asked for, and let the credits move."""
    by = _asking()
    with postgres.transaction() as tx:
        approved = grants.approve(tx, by, grant_id)
    _tell(_settled(approved), as_json)


@app.command()
def refuse(grant_id: GrantId, reason: Reason, as_json: Json = False) -> None:
    """Say no to a grant that waits, your own included; it is never carried out then."""
    by = _asking()
    with postgres.transaction() as tx:
        refused = grants.refuse(tx, by, grant_id, why=reason)
    _tell(refused, as_json)


@app.command("grants")
def listing(
    only_open: Annotated[bool, typer.Option("--open", help="only those that wait for a second admin")] = False,
    who: Annotated[str | None, typer.Option("--user", help="only those for this account")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="how many at the most")] = 50,
    as_json: Json = False,
) -> None:
    """What admins gave and took, and what waits for a second of them; the newest first."""
    with postgres.transaction() as tx:
        found = grants.listing(tx, account_=_account(who) if who else None, only_open=only_open, limit=limit)
    rows: list[tuple[object, ...]] = [
        (one.id, _standing(one), one.account, f"{one.amount:+}", one.requested_by, minute(one.requested_at), one.reason)
        for one in found
    ]
    text = table(("grant", "standing", "account", "credits", "asked by", "at", "reason"), rows) if rows else "no grants"
    say({"grants": [_record(one) for one in found]}, as_json, text)


@app.command()
def adjust(
    file: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="CSV: user_id,credits[,reason]")],
    reason: Annotated[str, typer.Option(help="why, for lines that give no reason of their own")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be done, and do nothing")] = False,
    as_json: Json = False,
) -> None:
    """Correct many balances: credits above zero are given, below zero taken. The same file again does nothing twice.

    Nothing is done when any line is wrong. Exit code 1 when a line could not be done.
    """
    by = _asking()
    listed = adjustment.read(file.read_bytes(), reason=reason)
    if dry_run:
        with postgres.transaction() as tx:
            results = adjustments.rehearsal(tx, by, listed)
    else:
        results = list(adjustments.carry_out(by, listed))
    rows: list[tuple[object, ...]] = [
        (one.line.number, one.line.account, f"{one.line.amount:+}", one.outcome, one.detail or one.line.reason)
        for one in results
    ]
    counts = {str(outcome): sum(one.outcome is outcome for one in results) for outcome in Outcome}
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    record = {
        "dry_run": dry_run,
        "list": listed.digest,
        "counts": counts,
        "lines": [_line(one, listed.id(one.line)) for one in results],
    }
    head = ("line", "account", "credits", "outcome", "why")
    say(record, as_json, f"{table(head, rows)}\n{'would be: ' if dry_run else ''}{said}")
    if counts[Outcome.SHORT]:
        raise typer.Exit(1)


def _line(result: Result, grant_id: str) -> dict[str, Any]:
    return asdict(result.line) | {"outcome": result.outcome, "detail": result.detail, "grant": grant_id}


def _account(who: str) -> str:
    return who if who.startswith(("user:", "pool:")) else account(who)


def _asking() -> Admin:
    """The admin whose word this is; whatever is approved is told to the Broker, so there must be one."""
    config().need("k_sink")
    return asking()


def _settled(asked: Grant) -> Grant:
    """The grant, once `earn` has carried it out or it is known that nobody will; as it stands when that takes long."""
    until = time.monotonic() + PATIENCE_S
    while asked.standing(grants.policy(), datetime.now(UTC)) is Standing.APPROVED and time.monotonic() < until:
        time.sleep(0.1)
        with postgres.transaction() as tx:
            asked = grants.found(tx, asked.id)
    return asked


def _standing(one: Grant) -> Standing:
    return one.standing(grants.policy(), datetime.now(UTC))


def _record(one: Grant) -> dict[str, Any]:
    return asdict(one) | {"standing": _standing(one)}


SAID = {
    Standing.PENDING: "waits for a second admin: vsgen credits approve {id}",
    Standing.APPROVED: "is approved, and carried out as soon as the function earn hears of it",
    Standing.DONE: "is done",
    Standing.FAILED: "could not be done: {failure}",
    Standing.REFUSED: "is refused",
    Standing.EXPIRED: "has expired",
}


def _tell(one: Grant, as_json: bool) -> None:
    standing = _standing(one)
    said = SAID[standing].format(id=one.id, failure=one.failure)
    say(_record(one), as_json, f"{one.kind} {one.id} of {one.amount:+} credits for {one.account} {said}")
    if standing is Standing.FAILED:
        raise typer.Exit(1)
