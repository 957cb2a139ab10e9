"""A saturated pool: it does not change its mind with every job, and refuses the lower tiers first."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.domain.estimate import Load
from functions.domain.pressure import FULL, LEAST_RETRY_S, MOST_RETRY_S, Marks, Verdict, less, verdict
from functions.domain.workflow import Workflow, resolve

MARKS = Marks(depth=100, wait_s=600, recovered_share=0.5)
WORKFLOW = Workflow.parse((Path(__file__).parents[2] / "functions/workflows/txt2img/1.0.0.json").read_bytes())


@given(st.lists(st.integers(0, 300)))
def test_between_its_marks_a_pool_stays_as_it_was(depths: list[int]) -> None:
    saturated = False
    for depth in depths:
        was = saturated
        saturated = MARKS.saturated(MARKS.level(Load(waiting=depth), drain_s=0), was=was)
        if depth > 100:
            assert saturated
        elif depth < 50:
            assert not saturated
        else:
            assert saturated == was


@given(st.integers(0, 1000), st.floats(0, 1e5))
def test_the_nearer_mark_counts_and_a_mark_of_zero_is_none(depth: int, drain_s: float) -> None:
    load = Load(waiting=depth)
    assert MARKS.level(load, drain_s=drain_s) == max(depth / 100, drain_s / 600)
    assert Marks(depth=0, wait_s=0, recovered_share=0.5).level(load, drain_s=drain_s) == 0


@given(st.floats(0.5, 100), st.floats(0, 1e6))
def test_when_to_come_again_lies_within_bounds(level: float, drain_s: float) -> None:
    assert LEAST_RETRY_S <= MARKS.retry_after_s(level, drain_s=drain_s) <= MOST_RETRY_S


def test_it_is_when_the_pool_would_have_recovered() -> None:
    assert MARKS.retry_after_s(2.0, drain_s=1200) == 900  # from 1200 s of work down to half of 600


@given(st.floats(0, 10), st.booleans(), st.booleans(), st.booleans())
def test_only_lower_tiers_of_a_saturated_pool_are_refused(
    level: float, saturated: bool, pressed: bool, may_degrade: bool
) -> None:
    found = verdict(level, saturated=saturated, pressed=pressed, may_degrade=may_degrade)
    if not saturated or not pressed:
        assert found is Verdict.FLOWS
    elif may_degrade and level <= FULL:
        assert found is Verdict.GETS_LESS
    else:
        assert found is Verdict.REFUSED


@given(st.integers(1, 8), st.integers(1, 200))
def test_less_is_fewer_pictures_or_else_fewer_steps_within_the_workflow_s_bounds(images: int, steps: int) -> None:
    asked = resolve(WORKFLOW, {"prompt": "a heron", "model": "m", "seed": 1, "images": images, "steps": steps})
    smaller = less(WORKFLOW, asked)
    if images > 1:
        assert smaller == {"images": (images + 1) // 2}
    elif steps > 1:
        assert smaller == {"steps": (steps + 1) // 2}
    else:
        assert smaller == {}
    resolve(WORKFLOW, asked | smaller)


@pytest.mark.parametrize("minimum", [20, 28])
def test_what_is_at_its_least_does_not_get_less(minimum: int) -> None:
    document = json.loads((Path(__file__).parents[2] / "functions/workflows/txt2img/1.0.0.json").read_text())
    document["parameters"]["steps"]["minimum"] = minimum
    workflow = Workflow.parse(json.dumps(document))
    assert less(workflow, {"images": 1, "steps": 28}) == {}
