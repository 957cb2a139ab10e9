"""Where a job stands in the line."""

from collections import defaultdict
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from functions.domain.place import BOOST, HEAD_START_MS, due_ms, head_start_ms, place, work

MINUTE_MS = 60_000
YEAR_2026_MS = 1_767_225_600_000
moments = st.integers(YEAR_2026_MS, YEAR_2026_MS * 2)
roles = st.sampled_from([*HEAD_START_MS, "GUEST"])
boosts = st.integers(0, 1000)


def due(submitted_ms: int = YEAR_2026_MS, role: str = "USER", boost: int = 0) -> int:
    return due_ms(start_ms=submitted_ms, head_start_ms=head_start_ms(role, boost))


def test_an_admin_passes_every_line_however_long_the_others_have_waited() -> None:
    ten_years_ms = 10 * 365 * 24 * 60 * MINUTE_MS
    assert due(YEAR_2026_MS + ten_years_ms, "ADMIN") < due(YEAR_2026_MS, "CURATOR", boost=1000)


def test_a_curator_is_level_with_a_user_who_asked_half_an_hour_earlier() -> None:
    assert due(YEAR_2026_MS + 30 * MINUTE_MS, "CURATOR") == due(YEAR_2026_MS, "USER")


def test_a_low_tier_waits_half_an_hour_longer_but_no_tier_waits_for_ever() -> None:
    assert due(YEAR_2026_MS, "LOW") == due(YEAR_2026_MS + 30 * MINUTE_MS, "USER")


def test_a_boost_is_worth_an_hour_and_never_pushes_an_admin_back() -> None:
    assert due(boost=1) == due() - HEAD_START_MS[BOOST]
    assert due(role="ADMIN", boost=1) == due(role="ADMIN")


def test_what_a_tier_is_worth_can_be_configured() -> None:
    assert head_start_ms("gold", 0, worth_ms={"GOLD": 7}) == 7
    assert head_start_ms("gold", 5, worth_ms={"GOLD": 7}) == 7


def test_a_role_nobody_knows_starts_level_and_case_does_not_matter() -> None:
    assert due(role="GUEST") == due(role="USER")
    assert due(role="curator") == due(role="CURATOR")


def test_work_is_megapixel_steps_by_pictures_and_complexity() -> None:
    assert work({"width": 1000, "height": 2000, "steps": 10}, images=3, complexity=1.5) == 90
    assert work({}, images=1) == 1024 * 1024 * 28 / 1e6


def test_each_job_of_a_user_starts_where_the_one_before_has_had_its_share() -> None:
    first = place(submitted_ms=1000, behind_ms=None, cost_ms=60, users=4, workers=2, head_start_ms=0)
    assert (first.start_ms, first.finish_ms, first.due_ms) == (1000, 1120, 1000)
    second = place(submitted_ms=1001, behind_ms=first.finish_ms, cost_ms=60, users=4, workers=2, head_start_ms=10)
    assert (second.start_ms, second.finish_ms, second.due_ms) == (1120, 1240, 1110)


def test_a_job_that_costs_next_to_nothing_is_still_a_step_forward() -> None:
    found = place(submitted_ms=1000, behind_ms=None, cost_ms=1, users=0, workers=64, head_start_ms=0)
    assert found.finish_ms > found.start_ms


@given(moments, moments, roles, boosts)
def test_within_a_tier_who_asked_first_is_first(one: int, other: int, role: str, boost: int) -> None:
    assert (due(one, role, boost) < due(other, role, boost)) == (one < other)


@given(moments, roles, boosts)
def test_a_place_survives_the_trip_through_redis_exactly(submitted_ms: int, role: str, boost: int) -> None:
    found = due(submitted_ms, role, boost)
    assert 0 <= found < 2**53
    assert int(float(found)) == found
    assert int(f"{float(found):.17g}") == found


# --- days in the life of a pool ---


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A job somebody asks for, so many ms after the day began."""

    at_ms: int
    user: str
    role: str = "USER"
    boost: int = 0
    cost_ms: int = 10_000


asked = st.builds(
    Asked,
    at_ms=st.integers(0, 3_600_000),
    user=st.sampled_from("abcde"),
    role=st.sampled_from(["CURATOR", "USER", "LOW"]),
    boost=st.sampled_from([0, 0, 10]),
    cost_ms=st.integers(1, 120_000),
)
days = st.lists(asked, max_size=40)


def served(day: list[Asked], *, workers: int = 1) -> list[tuple[Asked, int, int]]:
    """What one GPU does in such a day: each job in the order it is done, with when it began and its due time."""
    order = sorted(day, key=lambda job: job.at_ms)
    behind: dict[str, list[tuple[int, int]]] = defaultdict(list)  # each user's live jobs: finish, when it is over
    waiting: list[tuple[int, int, Asked]] = []
    now, came, done = 0, 0, []
    while came < len(order) or waiting:
        if not waiting:
            now = max(now, order[came].at_ms)
        while came < len(order) and order[came].at_ms <= now:
            job = order[came]
            live = behind[job.user]
            users = sum(1 for those in behind.values() if those)
            found = place(
                submitted_ms=job.at_ms,
                behind_ms=max((finish for finish, _ in live), default=None),
                cost_ms=job.cost_ms,
                users=users + (not live),
                workers=workers,
                head_start_ms=head_start_ms(job.role, job.boost),
            )
            live.append((found.finish_ms, came))
            waiting.append((found.due_ms, came, job))
            came += 1
        waiting.sort(key=lambda one: one[:2])
        due_at, number, job = waiting.pop(0)
        done.append((job, now, due_at))
        now += job.cost_ms
        behind[job.user] = [one for one in behind[job.user] if one[1] != number]
    return done


@given(days)
def test_everybody_is_served_in_the_end(day: list[Asked]) -> None:
    assert sorted(job.at_ms for job, _, _ in served(day)) == sorted(job.at_ms for job in day)


@given(days, st.integers(0, 3_600_000), st.sampled_from(["CURATOR", "USER", "LOW"]))
def test_nobody_starves_whoever_comes_later(day: list[Asked], at_ms: int, role: str) -> None:
    """What is asked later than a job's due time and the largest head start cannot run before it, so the wait is bounded
    by the work there is until then."""
    mine = Asked(at_ms=at_ms, user="me", role=role)
    done = served([mine, *day])
    mine_due = next(due_at for job, _, due_at in done if job is mine)
    before = done[: next(n for n, (job, _, _) in enumerate(done) if job is mine)]
    latest_ms = mine_due + HEAD_START_MS[BOOST]
    assert all(job.at_ms <= latest_ms or began < at_ms for job, began, _ in before)


@given(st.integers(1, 60), st.integers(0, 3_600_000))
def test_a_flood_hurts_only_its_sender(many: int, at_ms: int) -> None:
    """Who comes with one job waits for as many of the flood's as had their turn by then, and for no more of them."""
    mine = Asked(at_ms=at_ms, user="me")
    one = [Asked(at_ms=0, user="flood", cost_ms=10_000)]
    quiet, flooded = served([mine, *one]), served([mine, *one * many])
    waited = {
        name: began - at_ms
        for name, done in (("quiet", quiet), ("flooded", flooded))
        for job, began, _ in done
        if job is mine
    }
    due_before = at_ms // 10_000 + 1  # as many of the flood's shares as have passed when the other comes
    assert waited["flooded"] <= waited["quiet"] + 10_000 * min(many, due_before)
    if many > due_before + 1:
        assert [job for job, _, _ in flooded][-1].user == "flood"


@given(st.lists(st.integers(0, 3_600_000), unique=True, min_size=2, max_size=30), roles, boosts)
def test_equal_users_are_served_first_come_first_served(moments_ms: list[int], role: str, boost: int) -> None:
    day = [Asked(at_ms=at_ms, user=f"u-{n}", role=role, boost=boost) for n, at_ms in enumerate(moments_ms)]
    assert [job.at_ms for job, _, _ in served(day)] == sorted(moments_ms)


@given(
    st.integers(0, 10**9),
    st.one_of(st.none(), st.integers(0, 2 * 10**9)),
    st.integers(1, 10**6),
    st.integers(0, 10**9),
    st.sampled_from([("CURATOR", "USER"), ("USER", "LOW"), ("ADMIN", "CURATOR"), ("LOW", "LOW")]),
    st.booleans(),
)
def test_a_boost_or_a_better_tier_never_loses_to_an_equal_later_job(
    at_ms: int, behind_ms: int | None, cost_ms: int, later_ms: int, tiers: tuple[str, str], boosted: bool
) -> None:
    better, worse = tiers

    def found(submitted_ms: int, role: str, boost: int) -> int:
        return place(
            submitted_ms=submitted_ms,
            behind_ms=behind_ms,
            cost_ms=cost_ms,
            users=3,
            workers=2,
            head_start_ms=head_start_ms(role, boost),
        ).due_ms

    assert found(at_ms, better, int(boosted)) <= found(at_ms + later_ms, worse, 0)
