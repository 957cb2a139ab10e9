"""Free credits come back once a period, up to a level, and never above a cap."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.domain.refresh import Period, Refresh, refresh
from functions.domain.transfer import TREASURY, Kind, Reason

days = st.dates(date(2020, 1, 1), date(2040, 1, 1))


def test_a_balance_is_lifted_to_the_refresh_rather_than_raised_by_it() -> None:
    daily = Refresh(credits=50)
    assert [daily.level(balance=held) for held in (0, 30, 50, 90)] == [50, 50, 50, 50]


def test_credits_that_add_up_stop_at_the_cap() -> None:
    adding = Refresh(credits=50, adds=True, cap=200)
    assert [adding.level(balance=held) for held in (0, 120, 180, 500)] == [50, 170, 200, 200]


@given(st.integers(0, 1000), st.booleans(), st.integers(1, 500), st.integers(0, 1000))
def test_no_refresh_lifts_a_balance_above_the_cap(credits: int, adds: bool, cap: int, balance: int) -> None:
    assert Refresh(credits=credits, adds=adds, cap=cap).level(balance=balance) <= cap


@pytest.mark.parametrize(
    ("period", "last", "today", "due"),
    [
        (Period.DAY, date(2026, 3, 1), date(2026, 3, 1), False),
        (Period.DAY, date(2026, 3, 1), date(2026, 3, 2), True),
        (Period.WEEK, date(2026, 3, 2), date(2026, 3, 8), False),  # Monday to Sunday
        (Period.WEEK, date(2026, 3, 8), date(2026, 3, 9), True),
        (Period.MONTH, date(2026, 3, 1), date(2026, 3, 31), False),
        (Period.MONTH, date(2026, 3, 31), date(2026, 4, 1), True),
    ],
)
def test_a_period_begins_at_midnight_on_mondays_or_on_the_first(
    period: Period, last: date, today: date, due: bool
) -> None:
    assert Refresh(credits=50, period=period).is_due(last, today) is due


@given(days, st.sampled_from(Period))
def test_a_first_refresh_is_always_due_and_none_when_there_are_no_credits_in_it(day: date, period: Period) -> None:
    assert Refresh(credits=1, period=period).is_due(None, day)
    assert not Refresh(credits=0, period=period).is_due(None, day)


def test_a_refresh_is_one_transfer_a_day() -> None:
    made = refresh("ann", 50, day=date(2026, 3, 1))
    assert (made.id, made.debit_account) == ("user:ann:grant:refresh:2026-03-01", TREASURY)
    assert (made.reason, made.kind, made.amount) == (Reason.GRANT, Kind.REFRESH, 50)
    assert made.id != refresh("ann", 50, day=date(2026, 3, 2)).id
