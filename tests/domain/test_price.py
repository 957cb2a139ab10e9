"""The published price: whole credits, never less for more work, and exact."""

from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.domain.price import Prices, Quote, quote

SIZES = st.integers(16, 4096)
STEPS = st.integers(1, 200)
COMPLEXITIES = st.sampled_from([0.5, 0.7, 1.0, 1.1, 1.4, 1.5, 2.0, 2.8, 3.3])


def priced(complexity: float = 1.0, loras: int = 0, boost: int = 0, **parameters: Any) -> int:
    return quote(parameters, complexity=complexity, loras=loras, boost=boost).credits


@pytest.mark.parametrize(
    ("asked", "credits"),
    [
        ({}, 1),
        ({"width": 1024, "height": 1024, "steps": 28}, 1),
        ({"width": 1024, "height": 1024, "steps": 29}, 2),
        ({"width": 64, "height": 64, "steps": 1}, 1),
        ({"width": 2048, "height": 2048, "steps": 28}, 4),
        ({"width": 1024, "height": 1024, "steps": 28, "images": 4}, 4),
        ({"width": 832, "height": 1216, "steps": 56, "images": 2}, 4),
        ({"complexity": 1.5}, 2),
        ({"loras": 2}, 3),
        ({"boost": 5}, 6),
    ],
)
def test_a_published_example_costs_what_is_published(asked: dict[str, Any], credits: int) -> None:
    assert priced(**asked) == credits


def test_a_quote_is_the_sum_of_its_terms_and_names_its_formula() -> None:
    assert quote({"images": 2}, complexity=1.0, loras=3, boost=4) == Quote(version="1", render=2, loras=3, boost=4)


@given(width=SIZES, height=SIZES, steps=STEPS, images=st.integers(1, 8), complexity=COMPLEXITIES)
def test_the_price_is_exactly_the_formula_in_whole_credits(**asked: Any) -> None:
    size = asked["width"] * asked["height"]
    exact = Fraction(size, 1024 * 1024) * Fraction(asked["steps"], 28) * Fraction(str(asked["complexity"]))
    assert priced(**asked) == asked["images"] * ceil(exact)
    assert type(priced(**asked)) is int


def test_a_price_that_comes_out_even_is_not_rounded_up_by_an_error_of_binary_fractions() -> None:
    assert 2048 * 2048 / 1024**2 * 175 / 28 * 2.2 > 55, "in floats it is a hair more than it is"
    assert priced(complexity=2.2, width=2048, height=2048, steps=175) == 55


@given(width=SIZES, height=SIZES, steps=STEPS, images=st.integers(1, 7), more=st.integers(1, 4), what=st.data())
def test_more_work_never_costs_less(width: int, height: int, steps: int, images: int, more: int, what: Any) -> None:
    asked = {"width": width, "height": height, "steps": steps, "images": images}
    field = what.draw(st.sampled_from(sorted(asked)))
    assert priced(**asked | {field: asked[field] + more}) >= priced(**asked)


@given(width=SIZES, height=SIZES, steps=STEPS)
def test_a_picture_is_never_free(width: int, height: int, steps: int) -> None:
    assert priced(width=width, height=height, steps=steps) >= 1


@pytest.mark.parametrize(
    ("prices", "asked", "credits"),
    [
        (Prices(base=2.0), {}, 2),
        (Prices(base=0.5), {"width": 2048, "height": 2048}, 2),
        (Prices(base=0.1), {"images": 3}, 3),
        (Prices(base=0.1), {"width": 2048, "height": 2048, "steps": 140, "complexity": 1.5}, 3),
        (Prices(lora=0.0), {"loras": 3}, 1),
        (Prices(lora=0.5), {"loras": 3}, 3),
        (Prices(base=3.0, lora=2.0), {"loras": 1, "boost": 4, "images": 2}, 12),
    ],
)
def test_an_installation_may_ask_other_prices(prices: Prices, asked: dict[str, Any], credits: int) -> None:
    parameters = {name: value for name, value in asked.items() if name not in ("complexity", "loras", "boost")}
    quoted = quote(
        parameters,
        complexity=asked.get("complexity", 1.0),
        loras=asked.get("loras", 0),
        boost=asked.get("boost", 0),
        prices=prices,
    )
    assert quoted.credits == credits
    assert quoted.version == prices.version


def test_a_version_names_the_formula_and_every_price_that_is_not_its_own() -> None:
    assert Prices().version == "1"
    assert Prices(base=2.5).version == "1,base=2.5"
    assert Prices(base=2.0, lora=0.0).version == "1,base=2,lora=0"
