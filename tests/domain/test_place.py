"""Where a job stands in the line."""

from hypothesis import given
from hypothesis import strategies as st

from functions.domain.place import BOOST_HEAD_START_MS, HEAD_START_MS, due_ms

MINUTE_MS = 60_000
YEAR_2026_MS = 1_767_225_600_000
moments = st.integers(YEAR_2026_MS, YEAR_2026_MS * 2)
roles = st.sampled_from([*HEAD_START_MS, "GUEST"])
boosts = st.integers(0, 1000)


def due(submitted_ms: int = YEAR_2026_MS, role: str = "USER", boost: int = 0) -> int:
    return due_ms(submitted_ms=submitted_ms, role=role, boost=boost)


def test_an_admin_passes_every_line_however_long_the_others_have_waited() -> None:
    ten_years_ms = 10 * 365 * 24 * 60 * MINUTE_MS
    assert due(YEAR_2026_MS + ten_years_ms, "ADMIN") < due(YEAR_2026_MS, "CURATOR", boost=1000)


def test_a_curator_is_level_with_a_user_who_asked_half_an_hour_earlier() -> None:
    assert due(YEAR_2026_MS + 30 * MINUTE_MS, "CURATOR") == due(YEAR_2026_MS, "USER")


def test_a_low_tier_waits_half_an_hour_longer_but_no_tier_waits_for_ever() -> None:
    assert due(YEAR_2026_MS, "LOW") == due(YEAR_2026_MS + 30 * MINUTE_MS, "USER")


def test_a_boost_is_worth_an_hour_and_never_pushes_an_admin_back() -> None:
    assert due(boost=1) == due() - BOOST_HEAD_START_MS
    assert due(role="ADMIN", boost=1) == due(role="ADMIN")


def test_a_role_nobody_knows_starts_level_and_case_does_not_matter() -> None:
    assert due(role="GUEST") == due(role="USER")
    assert due(role="curator") == due(role="CURATOR")


@given(moments, moments, roles, boosts)
def test_within_a_tier_who_asked_first_is_first(one: int, other: int, role: str, boost: int) -> None:
    assert (due(one, role, boost) < due(other, role, boost)) == (one < other)


@given(moments, roles, boosts)
def test_a_place_survives_the_trip_through_redis_exactly(submitted_ms: int, role: str, boost: int) -> None:
    place = due(submitted_ms, role, boost)
    assert 0 <= place < 2**53
    assert int(float(place)) == place
    assert int(f"{float(place):.17g}") == place
