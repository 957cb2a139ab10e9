"""earn: credits come to be, or go, because a user achieved something or admins said so.

hears   credits.earned        the platform: a user has achieved something
        grant.approved        as many admins as it takes want credits given or taken
says    credits.transferred   they have moved
"""

from datetime import UTC, datetime

from sqlalchemy import Connection

from functions.adapters import earnings, grants, ledger
from functions.config import config
from functions.domain import transfer
from functions.domain.errors import InsufficientCredits, Rejected
from functions.domain.event import CreditsEarned, CreditsTransferred, GrantApproved


def earn(tx: Connection, event: CreditsEarned | GrantApproved) -> CreditsTransferred | None:
    """Move the credits, once. Rejected when they are more than may be earned; what is not there is not taken, and that
    is written down."""
    return _pay(tx, event) if isinstance(event, CreditsEarned) else _carry_out(tx, event)


def _pay(tx: Connection, event: CreditsEarned) -> CreditsTransferred | None:
    user_id, asked, most = event.actor.user_id, event.asked, earnings.most(tx)
    if not most:
        raise Rejected("achievements_off", "achievements pay nothing here (ACHIEVEMENT_CREDITS=0)")
    if asked.credits > most:
        raise Rejected("achievement_too_large", f"an achievement pays {most} credits at the most", field="credits")
    reward = transfer.achievement(
        user_id,
        asked.credits,
        name=asked.achievement,
        authorised_by=f"user:{user_id}",
        instruction=f"{event.name}:{asked.achievement}",
    )
    paid = ledger.post(tx, reward)
    if paid and not earnings.count(tx, user_id, asked.credits, day=datetime.now(UTC).date()):
        a_day = config().achievement_day_credits
        raise Rejected("achievements_of_the_day", f"achievements pay a user {a_day} credits a day at the most")
    return paid


def _carry_out(tx: Connection, event: GrantApproved) -> CreditsTransferred | None:
    grant = grants.found(tx, event.grant_id)
    if grant.failure:
        return None
    try:
        return ledger.post(tx, grant.transfer())
    except InsufficientCredits as short:
        grants.fail(tx, grant, str(short))
        return None
