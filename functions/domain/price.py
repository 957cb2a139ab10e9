"""What a job costs, by a published formula: whole credits, the same for the same request, always rounded up.

    credits = images x ceil(base x megapixels x steps / 28 x complexity) + ceil(lora x loras) + boost

One credit is one 1024 x 1024 picture at 28 steps by a workflow of complexity 1, as long as nobody sets other prices. A
version names the formula and the prices it was worked out with.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

FORMULA = "1"
REFERENCE_PIXELS = 1024 * 1024
REFERENCE_STEPS = 28


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What an installation asks, in credits: `base` for the reference picture, `lora` for each LoRA."""

    base: float = 1.0
    lora: float = 1.0

    @property
    def version(self) -> str:
        """The formula, and whatever differs from its own prices."""
        own = {"base": self.base, "lora": self.lora}
        return ",".join([FORMULA, *(f"{name}={price:g}" for name, price in own.items() if price != 1)])


OWN = Prices()


@dataclass(frozen=True, kw_only=True)
class Quote:
    """A price and the terms it is the sum of, in credits."""

    version: str
    render: int
    loras: int
    boost: int

    @property
    def credits(self) -> int:
        return self.render + self.loras + self.boost


def quote(parameters: Mapping[str, Any], *, complexity: float, loras: int, boost: int, prices: Prices = OWN) -> Quote:
    """The price of a job with these resolved parameters, under a workflow of this complexity (1.0: plain text to
    image). A parameter that the workflow does not have counts as the reference's."""
    pixels = parameters.get("width", 1024) * parameters.get("height", 1024)
    steps = parameters.get("steps", REFERENCE_STEPS)
    # Fractions, because a float a hair above a whole number would be rounded up to the next credit.
    work = Fraction(pixels * steps, REFERENCE_PIXELS * REFERENCE_STEPS) * _exact(complexity) * _exact(prices.base)
    return Quote(
        version=prices.version,
        render=parameters.get("images", 1) * max(1, ceil(work)),
        loras=ceil(_exact(prices.lora) * loras),
        boost=boost,
    )


def _exact(setting: float) -> Fraction:
    """The number as it was written, not as a binary fraction is near to it."""
    return Fraction(str(setting))
