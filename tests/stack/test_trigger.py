from typing import Any

import pytest

from functions.stack import trigger
from functions.stack.trigger import Delivery, passes

EVENT = {"type": "visionsuit.generator.job.queued.v1", "source": "/functions/dispatch", "subject": "j1"}


@pytest.mark.parametrize(
    ("one", "through"),
    [
        ({"exact": {"type": EVENT["type"]}}, True),
        ({"exact": {"type": EVENT["type"], "subject": "j2"}}, False),
        ({"exact": {"absent": "x"}}, False),
        ({"prefix": {"type": "visionsuit.generator."}}, True),
        ({"suffix": {"type": ".v2"}}, False),
        ({"any": [{"suffix": {"type": ".v2"}}, {"suffix": {"type": ".v1"}}]}, True),
        ({"all": [{"prefix": {"type": "visionsuit."}}, {"exact": {"subject": "j2"}}]}, False),
        ({"not": {"exact": {"subject": "j2"}}}, True),
        ({"not": {"any": [{"prefix": {"source": "/functions"}}]}}, False),
    ],
)
def test_a_filter_lets_through_what_it_names(one: dict[str, Any], through: bool) -> None:
    assert passes(one, EVENT) is through


def test_a_filter_that_cannot_be_evaluated_here_is_named(tmp_path: Any) -> None:
    path = tmp_path / "triggers.yaml"
    path.write_text(
        "{kind: Trigger, metadata: {name: t}, spec: {filters: [{cesql: 'true'}], subscriber: {ref: {name: s}}}}"
    )
    with pytest.raises(ValueError, match="trigger t: the local Broker cannot evaluate the filter 'cesql'"):
        trigger.read(path)


@pytest.mark.parametrize(("text", "seconds"), [("PT1S", 1), ("PT0.2S", 0.2), ("PT1M30S", 90), ("PT2H", 7200)])
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert trigger.seconds(text) == seconds


@pytest.mark.parametrize("text", ["1S", "PT", "P1D", "PT1"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration like PT1S"):
        trigger.seconds(text)


def test_pauses_double_or_grow_evenly() -> None:
    assert [Delivery(delay_s=0.5).pause_s(n) for n in (1, 2, 3)] == [0.5, 1, 2]
    assert [Delivery(delay_s=0.5, policy="linear").pause_s(n) for n in (1, 2, 3)] == [0, 0.5, 1]
