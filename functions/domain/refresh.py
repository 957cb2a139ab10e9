"""Free credits that come back by themselves: once a period, at the first touch of an account, up to so many."""

from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from functions.domain.transfer import TREASURY, Kind, Reason, Transfer, account


class Period(StrEnum):
    """How often; periods turn at midnight UTC, weeks on Mondays (ISO 8601)."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, kw_only=True)
class Refresh:
    """What comes back: `credits` a period; 0: nothing ever does.

    adds: the credits are put on top of what is left, rather than the balance lifted to them.
    cap: no refresh lifts a balance above this.
    """

    credits: int
    period: Period = Period.DAY
    adds: bool = False
    cap: int = 200

    def level(self, *, balance: int) -> int:
        """What an account that holds this much is to hold afterwards, if it is more."""
        return min(self.cap, balance + self.credits if self.adds else self.credits)

    def is_due(self, last: date | None, today: date) -> bool:
        """Whether a period has begun since the last refresh; both are days of UTC."""
        return self.credits > 0 and (last is None or self._begin(last) < self._begin(today))

    def _begin(self, day: date) -> date:
        match self.period:
            case Period.DAY:
                return day
            case Period.WEEK:
                return day - timedelta(days=day.weekday())
            case Period.MONTH:
                return day.replace(day=1)


def refresh(user_id: str, level: int, *, day: date) -> Transfer:
    """The refresh of this day (UTC), once: the ledger fills the user's account up to the level, and moves nothing where
    as much is there."""
    return Transfer(
        id=f"{account(user_id)}:grant:refresh:{day}",
        debit_account=TREASURY,
        credit_account=account(user_id),
        amount=level,
        reason=Reason.GRANT,
        kind=Kind.REFRESH,
        authorised_by="refresh",
        instruction=f"refresh:{day}",
    )
