"""Lists of corrections, line by line: each line is a grant of its own, known again by its list and number."""

from collections.abc import Iterator

from sqlalchemy import Connection, text

from functions.adapters import grants, postgres
from functions.adapters.grants import Admin
from functions.domain.adjustment import Line, Listed, Outcome, Result, rehearse
from functions.domain.grant import Kind

BALANCES = text("SELECT id, balance FROM generator_credit_account WHERE id = ANY(:accounts)")


def rehearsal(tx: Connection, by: Admin, listed: Listed) -> list[Result]:
    """What the list would come to, line by line, as the accounts stand now. Nothing is written."""
    known = grants.known(tx, [listed.id(line) for line in listed.lines])
    rows = tx.execute(BALANCES, {"accounts": list({line.account for line in listed.lines})})
    return rehearse(
        listed.lines,
        balances={account: balance for account, balance in rows},
        known=frozenset(line.number for line in listed.lines if listed.id(line) in known),
        second=frozenset(
            line.number for line in listed.lines if grants.needs_second(tx, by, line.account, line.amount)
        ),
    )


def carry_out(by: Admin, listed: Listed) -> Iterator[Result]:
    """Ask for every line that can be done, each in a transaction of its own: a list that is cut short goes on where it
    was when it is brought again."""
    with postgres.transaction() as tx:
        planned = rehearsal(tx, by, listed)
    for result in planned:
        if result.outcome in (Outcome.APPROVED, Outcome.PENDING):
            with postgres.transaction() as tx:
                told = _ask(tx, by, listed, result.line)
            yield told
        else:
            yield result


def _ask(tx: Connection, by: Admin, listed: Listed, line: Line) -> Result:
    asked = grants.ask(
        tx,
        by,
        account_=line.account,
        amount=line.amount,
        kind=Kind.ADJUSTMENT,
        reason=line.reason,
        id=listed.id(line),
    )
    if asked is None:  # somebody else brought the same list a moment ago
        return Result(line=line, outcome=Outcome.KNOWN)
    return Result(line=line, outcome=Outcome.PENDING if asked.needs_approval else Outcome.APPROVED)
