"""Spending caps as they are set: by role and period."""

import pytest

from functions.domain.spending import parse


def test_each_role_has_a_cap_for_each_period_that_names_one() -> None:
    assert parse("CURATOR=200/day, curator=3000/month,ADMIN=0/week") == {
        "CURATOR": {"day": 200, "month": 3000},
        "ADMIN": {"week": 0},
    }
    assert parse("") == parse(" , ") == {}


@pytest.mark.parametrize(
    "said", ["CURATOR", "CURATOR=5", "CURATOR=5/year", "CURATOR=-5/day", "CURATOR=1.5/day", "=5/day"]
)
def test_what_is_no_cap_is_named(said: str) -> None:
    with pytest.raises(ValueError, match=f"{said!r} is not ROLE=credits/period"):
        parse(f"ADMIN=5/day,{said}")
