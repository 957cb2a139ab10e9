"""What comes to users without an admin: each period's refresh at its first touch, and achievements up to a bound."""

from dataclasses import replace
from datetime import UTC, date, datetime

from sqlalchemy import Connection, text

from functions.adapters import ledger, outbox
from functions.config import config
from functions.domain.refresh import refresh as filled_up
from functions.domain.transfer import account

SOURCE = "/functions/refresh"

STANDS = text("""
SELECT coalesce(account.balance, 0) AS balance, account.refreshed_on, bound.value AS bound
FROM generator_ledger_bound AS bound LEFT JOIN generator_credit_account AS account ON account.id = :account
WHERE bound.name = 'refresh_credits'
""")


def touch(tx: Connection, user_id: str) -> int:
    """Give the user this period's refresh, if nobody has yet; gives how many credits that was.

    Call it before a balance is read or spent. Of two first touches at once the second waits for the first, and finds
    nothing left to do.
    """
    refresh, today = config().refresh, datetime.now(UTC).date()
    while refresh.credits:
        stands = tx.execute(STANDS, {"account": account(user_id)}).one()
        if not refresh.is_due(stands.refreshed_on, today):
            break
        level = replace(refresh, cap=min(refresh.cap, stands.bound)).level(balance=stands.balance)
        trial = tx.begin_nested()
        told = ledger.post(tx, filled_up(user_id, level, day=today))
        if told and refresh.adds and told.amount > refresh.credits:
            trial.rollback()  # something was spent since the balance was read: add to what is left of it
            continue
        trial.commit()
        outbox.put(tx, SOURCE, [told] if told else [])
        return told.amount if told else 0
    return 0


BOUND = text("SELECT value FROM generator_ledger_bound WHERE name = 'achievement_credits'")


def most(tx: Connection) -> int:
    """The most that one achievement may pay: what is set, within the ledger's own bound."""
    return min(config().achievement_credits, int(tx.execute(BOUND).scalar_one()))


COUNT = text("""
INSERT INTO generator_credit_earned (account, day, credits) VALUES (:account, :day, :credits)
ON CONFLICT (account, day) DO UPDATE SET credits = generator_credit_earned.credits + excluded.credits
RETURNING credits <= :most
""")


def count(tx: Connection, user_id: str, credits: int, *, day: date) -> bool:
    """Add to what the user's achievements have paid this day (UTC); False when that is too much: roll back then."""
    asked = {"account": account(user_id), "day": day, "credits": credits, "most": config().achievement_day_credits}
    return bool(tx.execute(COUNT, asked).scalar())
