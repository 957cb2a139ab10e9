"""A row of the performance table: what was measured, against what, and whether that is good enough."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.servers import Servers

#: A run counts only while its reference holds still: its slowest round may take this many times its fastest.
STEADY = 1.5
ROUNDS = 7
TRIES = 3
PATIENCE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A bound for the ratio; without one the row is there to be known."""

    least: float | None = None
    most: float | None = None

    def met(self, ratio: float) -> bool | None:
        if self.least is None and self.most is None:
            return None
        return (self.least is None or ratio >= self.least) and (self.most is None or ratio <= self.most)

    def __str__(self) -> str:
        bounds = ((">=", self.least), ("<=", self.most))
        return " ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None) or "none"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table; `ok` is None where nothing can be said, and `note` says why."""

    name: str
    value: float | None
    unit: str
    reference: str
    reference_value: float | None
    ratio: float | None
    goal: str
    ok: bool | None
    rounds: int
    note: str = ""

    def told(self) -> dict[str, Any]:
        """The row as JSON has it, numbers rounded to what they are worth."""
        rounded = {
            name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in vars(self).items()
        }
        return {name: value for name, value in rounded.items() if name != "note" or value}


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Rounds of ours and the reference, pair by pair."""

    ours: Sequence[float]
    reference: Sequence[float]

    @property
    def ratio(self) -> float:
        return statistics.median(a / b for a, b in zip(self.ours, self.reference, strict=True))

    @property
    def spread(self) -> float:
        """How many times its fastest round the reference's slowest took."""
        return max(self.reference) / min(self.reference)


def alternate(ours: Callable[[], float], reference: Callable[[], float], *, rounds: int = ROUNDS) -> Pairs:
    """Rounds of both, turn by turn, each going first every other time; one more before them, to warm up, is dropped.

    Measured anew, at most three times in all and for a minute, while the reference does not hold still: what chooses
    the run that counts is the reference alone.
    """
    ours(), reference()
    until = time.monotonic() + PATIENCE_S
    for _ in range(TRIES):
        found: tuple[list[float], list[float]] = ([], [])
        for turn in range(rounds):
            order = (0, 1) if turn % 2 else (1, 0)
            for which in order:
                found[which].append((ours, reference)[which]())
        pairs = Pairs(ours=found[0], reference=found[1])
        if pairs.spread <= STEADY or time.monotonic() > until:
            break
    return pairs


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A row to be: its name, what it is held against, and how it is measured."""

    name: str
    unit: str
    reference: str
    goal: Goal
    about: str
    run: "Callable[[Measure, Servers], Row]"

    def judge(self, pairs: Pairs, *, note: str = "") -> Row:
        """The row these rounds make; `ok` is None where the reference did not hold still."""
        steady = pairs.spread <= STEADY
        noisy = "" if steady else f"noisy: the reference's rounds differ by a factor of {pairs.spread:.2f}"
        return self.row(
            value=statistics.median(pairs.ours),
            reference_value=statistics.median(pairs.reference),
            ratio=pairs.ratio,
            rounds=len(pairs.ours),
            ok=self.goal.met(pairs.ratio) if steady else None,
            note="; ".join(part for part in (noisy, note) if part),
        )

    def row(self, **found: Any) -> Row:
        """The row with these findings."""
        return Row(name=self.name, unit=self.unit, reference=self.reference, goal=str(self.goal), **found)

    def without(self, why: str) -> Row:
        """The row that could not be measured here."""
        return self.row(value=None, reference_value=None, ratio=None, ok=None, rounds=0, note=why)
