"""Estimates: learned from the latest, wide while little is known, and silent where nobody can know."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.domain.estimate import WINDOW, Known, Learned, Load, Range, assumed, in_words, silence

VALUES = st.lists(st.floats(0.001, 1e7), min_size=1, max_size=300)
LOADS = st.builds(Load, waiting=st.integers(0, 500), held=st.integers(0, 50), leased=st.integers(0, 20))


@st.composite
def knowledge(draw: st.DrawFn) -> Known:
    return Known(**{kind: Learned.of(draw(VALUES)) for kind in ("pace", "overhead", "hold", "turn", "start", "slack")})


@given(VALUES)
def test_what_is_learned_lies_among_what_was_seen(values: list[float]) -> None:
    learned = Learned.of(values)
    window = values[-WINDOW:]
    assert learned.latest == tuple(window)
    assert min(window) <= learned.p50 <= learned.p90 <= max(window)
    assert min(window) * (1 - 1e-9) <= learned.mean <= max(window) * (1 + 1e-9)
    assert learned.seen == len(values)


@given(VALUES, VALUES)
def test_lessons_may_come_in_any_portions(first: list[float], then: list[float]) -> None:
    joined = Learned.of(first).joined(then)
    assert joined == Learned.of([*first, *then])


def test_one_wild_value_moves_the_middle_little_and_a_lasting_change_moves_it_all_the_way() -> None:
    steady = [100.0] * WINDOW
    assert Learned.of([*steady, 1e9]).p50 == 100
    assert Learned.of([*steady, 1e9]).mean == pytest.approx(100, rel=0.05)
    assert Learned.of([*steady, *[300.0] * 60]).p50 == 300


@given(knowledge(), LOADS, st.integers(0, 300), st.integers(1, 20))
def test_a_wait_is_a_range_and_grows_with_what_is_ahead(known: Known, load: Load, ahead: int, workers: int) -> None:
    wait = known.wait(load, ahead=ahead, max_workers=workers)
    assert 0 <= wait.p50_ms <= wait.p90_ms
    assert (wait.raw_ms == 0) == (ahead + 1 <= workers - load.leased)
    later = known.wait(load, ahead=ahead + workers, max_workers=workers)
    assert later.raw_ms >= wait.raw_ms


@given(knowledge(), LOADS, st.integers(20, 300), st.integers(1, 10))
def test_more_gpus_make_no_wait_longer(known: Known, load: Load, ahead: int, workers: int) -> None:
    assert known.wait(load, ahead=ahead, max_workers=2 * workers).raw_ms <= (
        known.wait(load, ahead=ahead, max_workers=workers).raw_ms
    )


def test_a_pool_at_zero_adds_the_start_of_a_gpu() -> None:
    known = assumed(work_ms=1000, start_ms=60_000)
    idle = known.wait(Load(), ahead=0, max_workers=2)
    assert (idle.p50_ms, idle.p90_ms, idle.raw_ms) == (60_000, 120_000, 0)
    crowd = known.wait(Load(waiting=10), ahead=10, max_workers=2)
    assert crowd.p50_ms == 60_000 + crowd.raw_ms
    busy = known.wait(Load(waiting=10, leased=2), ahead=10, max_workers=2)
    assert busy.p50_ms == busy.raw_ms == round(11 * known.hold.mean / 2)


def test_the_pace_of_the_line_counts_rather_than_what_runners_tell_once_it_has_been_seen() -> None:
    told = assumed(work_ms=1000, start_ms=0)
    load = Load(leased=2)
    seen = Known(**vars(told) | {"turn": Learned.of([5000.0] * 10)})
    assert seen.wait(load, ahead=9, max_workers=2).raw_ms == 25_000
    once = Known(**vars(told) | {"turn": Learned.of([5000.0])})
    assert once.wait(load, ahead=9, max_workers=2) == told.wait(load, ahead=9, max_workers=2)


def test_waits_that_came_later_than_the_sum_had_said_stretch_the_next() -> None:
    plain = assumed(work_ms=1000, start_ms=0)
    taught = Known(**vars(plain) | {"slack": Learned.of([1.5] * 50)})
    load = Load(leased=1)
    assert taught.wait(load, ahead=9, max_workers=1).p50_ms == pytest.approx(
        1.5 * plain.wait(load, ahead=9, max_workers=1).p50_ms, abs=1
    )


def covered_on_a_line(*, load: float, jobs: int, seed: int) -> float:
    """The share of waits that ended within their estimate, on two GPUs that need as long between two jobs as for one.

    Jobs of very different lengths come at random, so many that the GPUs are at work for this share of the time. Nothing
    is learned before it has happened; the first fifth is for learning.
    """
    chance, workers, between_ms = random.Random(seed), 2, 4000.0
    known, free, arrived = assumed(work_ms=100, start_ms=between_ms), [0.0] * workers, 0.0
    to_come: list[tuple[float, float, int, float]] = []  # start, arrival, raw, end
    lessons: dict[str, list[float]] = {"hold": [], "turn": [], "start": [], "slack": []}
    last_claim, found = 0.0, []
    for number in range(jobs):
        arrived += chance.expovariate(load * workers / (4300.0 + between_ms))
        while to_come and to_come[0][0] <= arrived:
            start, came, raw_ms, end = to_come.pop(0)
            lessons["hold"].append(end - start)
            lessons["slack" if raw_ms else "start"].append((start - came) / (raw_ms or 1))
            if came <= last_claim:
                lessons["turn"].append((start - last_claim) * workers)
            last_claim = start
        learned = {kind: Learned.of(values) for kind, values in lessons.items() if values}
        known = Known(**vars(known) | learned)
        leased = sum(until - between_ms > arrived for until in free)
        wait = known.wait(Load(waiting=len(to_come), leased=leased), ahead=len(to_come), max_workers=workers)
        hold = chance.lognormvariate(8.2, 0.6)
        start = max(arrived + between_ms, min(free))
        free[free.index(min(free))] = start + hold + between_ms
        to_come.append((start, arrived, wait.raw_ms, start + hold))
        to_come.sort()
        if number > jobs // 5:
            found.append(start - arrived <= wait.p90_ms)
    return sum(found) / len(found)


@pytest.mark.parametrize("load", [0.4, 0.7, 0.9])
def test_on_a_line_that_is_served_about_nine_in_ten_waits_end_within_their_estimate(load: float) -> None:
    assert 0.8 <= covered_on_a_line(load=load, jobs=900, seed=7) <= 0.99


def test_where_nobody_can_know_no_number_is_given() -> None:
    here = {"pool": "v24", "stalled_s": 900, "oldest_wait_s": None, "closed": None, "max_workers": 2}
    assert silence(Load(waiting=5, leased=1), **here) is None
    assert "is paused (new drivers)" in str(silence(Load(), **here | {"closed": "paused (new drivers)"}))
    assert "may have no GPU" in str(silence(Load(waiting=1), **here | {"max_workers": 0}))
    assert "for 20 minutes, though jobs wait" in str(silence(Load(waiting=1), **here | {"oldest_wait_s": 1200}))
    assert silence(Load(waiting=1, leased=1), **here | {"oldest_wait_s": 1200}) is None
    assert silence(Load(waiting=1), **here | {"oldest_wait_s": 60}) is None


def test_a_range_is_said_as_people_say_it() -> None:
    assert in_words(Range(p50_ms=300, p90_ms=44_000)) == "at once most likely, about 44 s at the outside"
    assert in_words(Range(p50_ms=150_000, p90_ms=7_200_000)) == "about 2 min most likely, about 2.0 h at the outside"
