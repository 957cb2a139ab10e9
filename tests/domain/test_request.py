"""What may be asked for: seeds above all, which must arrive exactly as they left."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.domain.errors import Rejected
from functions.domain.request import PARAMETERS, SEED_LIMIT, JobRequest, exact_seed


def refused(seed: int | str) -> str:
    with pytest.raises(Rejected) as no:
        exact_seed(seed)
    assert no.value.field == "seed"
    return no.value.code


@given(st.integers(0, SEED_LIMIT - 1))
def test_a_seed_in_decimal_digits_is_kept_exactly(seed: int) -> None:
    assert exact_seed(str(seed)) == seed


@given(st.integers(0, 2**53))
def test_a_seed_as_a_number_is_kept_up_to_the_last_one_that_every_json_reader_keeps(seed: int) -> None:
    assert exact_seed(seed) == seed


@given(st.integers(2**53 + 1, 2**80))
def test_a_larger_number_is_refused_because_it_may_have_been_rounded_on_the_way(seed: int) -> None:
    assert refused(seed) == "seed_inexact"


def test_the_first_seed_past_the_range_and_the_first_before_it_are_refused() -> None:
    assert refused(str(SEED_LIMIT)) == "seed_out_of_range"
    assert refused("9" * 20) == "seed_out_of_range"
    assert refused(-1) == "seed_out_of_range"


@pytest.mark.parametrize("seed", ["", " 1", "1 ", "+1", "-1", "1.0", "1e3", "0x1f", "one", "1\n", "١", "1" * 21])  # noqa: RUF001
def test_a_text_that_is_not_plain_decimal_digits_is_no_seed(seed: str) -> None:
    assert refused(seed) == "seed_invalid"


def test_what_was_left_open_is_left_to_the_workflow() -> None:
    asked = JobRequest(prompt="a heron", model="m", steps=20)
    assert asked.values(seed=5) == {
        "prompt": "a heron",
        "model": "m",
        "steps": 20,
        "seed": 5,
    }


def test_every_parameter_of_a_request_is_a_field_of_it() -> None:
    asked = JobRequest(prompt="a heron", model="m")
    assert all(hasattr(asked, name) for name in PARAMETERS)
