"""How long a job will wait and take, from what the latest ones did: ranges, and a plain no where nobody can know.

A wait is the start of a GPU, where the pool still has to grow, and the jobs ahead by the pace at which the line has
lately been served. What this sum leaves out (others who come later and run first, above all) is learned as its `slack`:
what waits were, divided by what the sum had said.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Self

from functions.domain.price import REFERENCE_PIXELS, REFERENCE_STEPS

WINDOW = 200  # values remembered of each kind; `generator_estimate` keeps no more
HALF_LIFE = 50  # values after which one counts half
ENOUGH = 5  # values from which on a narrower class is believed rather than the wider one
CLIP = 3  # times the p90: a mean takes no value for more
P90_SIGMA = 1.2816  # the normal distribution's 90th percentile, in standard deviations
REFERENCE_WORK = REFERENCE_PIXELS * REFERENCE_STEPS / 1e6  # megapixel-steps of the picture that costs one credit


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What the latest values of one kind come to; newer ones count more, and wild ones little. seen: values ever."""

    p50: float
    p90: float
    mean: float
    seen: int
    latest: tuple[float, ...] = ()

    def joined(self, values: Sequence[float]) -> Self:
        """With these further values, the newest last."""
        return self.of((*self.latest, *values), seen=self.seen + len(values))

    @classmethod
    def of(cls, values: Sequence[float], *, seen: int | None = None) -> Self:
        """From values, the newest last; at least one."""
        latest = tuple(values[-WINDOW:])
        weights = [0.5 ** (age / HALF_LIFE) for age in range(len(latest) - 1, -1, -1)]
        ranked = sorted(zip(latest, weights, strict=True))
        total = sum(weights)
        p90 = _quantile(ranked, 0.9 * total)
        most = CLIP * p90 or ranked[-1][0]
        return cls(
            p50=_quantile(ranked, 0.5 * total),
            p90=p90,
            mean=sum(min(value, most) * weight for value, weight in ranked) / total,
            seen=len(values) if seen is None else seen,
            latest=latest,
        )


def _quantile(ranked: Sequence[tuple[float, float]], below: float) -> float:
    """The first value at which this much weight lies at or below it."""
    for value, weight in ranked:
        below -= weight
        if below <= 1e-9:
            return value
    return ranked[-1][0]


@dataclass(frozen=True, kw_only=True)
class Range:
    """Half of the cases take at most p50_ms, nine in ten at most p90_ms."""

    p50_ms: int
    p90_ms: int


@dataclass(frozen=True, kw_only=True)
class Wait(Range):
    """raw_ms: the plain sum of the work ahead, which learning compares with what came; 0: there was none."""

    raw_ms: int


@dataclass(frozen=True, kw_only=True)
class Load:
    """A pool this instant, in jobs. waiting: could be claimed; held: over a limit; parked: the pool is closed."""

    waiting: int = 0
    held: int = 0
    parked: int = 0
    delayed: int = 0
    leased: int = 0

    @property
    def backlog(self) -> int:
        """Everything that is not running."""
        return self.waiting + self.held + self.parked + self.delayed


@dataclass(frozen=True, kw_only=True)
class Known:
    """What has been learned of one pool; before that, what is assumed of it."""

    pace: Learned  # ms a unit of work
    overhead: Learned  # ms a job, beside the rendering
    hold: Learned  # ms a job
    turn: Learned  # ms of a GPU a job, until the next is claimed
    start: Learned  # ms
    slack: Learned  # a factor

    def render(self, work: float) -> Range:
        """How long a runner will have a job of this much work."""
        return Range(
            p50_ms=round(self.overhead.p50 + self.pace.p50 * work),
            p90_ms=round(self.overhead.p90 + self.pace.p90 * work),
        )

    @property
    def served_ms(self) -> float:
        """What a job of the line takes of one GPU: by the line's own pace, or, until that has been seen, by what
        runners have told."""
        return self.turn.mean if self.turn.seen >= ENOUGH else self.hold.mean

    def wait(self, load: Load, *, ahead: int, max_workers: int) -> Wait:
        """How long a job with this many before it waits for a GPU of at most max_workers (at least one), of which
        load.leased are at work."""
        workers = max(1, max_workers)
        behind = max(0, ahead + 1 - max(0, workers - load.leased))  # jobs that must end before this one can begin
        raw_ms = max(1, round(behind * self.served_ms / workers)) if behind else 0
        slack = self.slack if self.slack.seen >= ENOUGH else self._supposed(behind)
        starts = behind == 0 or load.leased == 0
        p50_ms = raw_ms * slack.p50 + (self.start.p50 if starts else 0)
        p90_ms = raw_ms * slack.p90 + (self.start.p90 if starts else 0)
        return Wait(p50_ms=round(p50_ms), p90_ms=round(max(p50_ms, p90_ms)), raw_ms=raw_ms)

    def _supposed(self, behind: int) -> Learned:
        """The slack until waits have taught one: that of a sum of so many jobs, as different as the latest were."""
        spread = max(0.5, P90_SIGMA * self.hold.p90 / max(self.hold.mean, 1.0) / sqrt(behind or 1))
        return Learned(p50=1, p90=1 + spread, mean=1, seen=0)


def assumed(*, work_ms: float, start_ms: float) -> Known:
    """What is taken to be true of a pool that has shown nothing yet: wide, and soon replaced."""
    pace = Learned(p50=work_ms, p90=2 * work_ms, mean=work_ms, seen=0)
    hold_ms = REFERENCE_WORK * work_ms
    return Known(
        pace=pace,
        overhead=Learned(p50=0, p90=0, mean=0, seen=0),
        hold=Learned(p50=hold_ms, p90=2 * hold_ms, mean=hold_ms, seen=0),
        turn=Learned(p50=hold_ms, p90=2 * hold_ms, mean=hold_ms, seen=0),
        start=Learned(p50=start_ms, p90=2 * start_ms, mean=start_ms, seen=0),
        slack=Learned(p50=1, p90=1, mean=1, seen=0),
    )


def silence(
    load: Load, *, pool: str, max_workers: int, closed: str | None, oldest_wait_s: float | None, stalled_s: float
) -> str | None:
    """Why no number would be honest, in words; None when one is. closed: how an operator closed the pool."""
    if closed is not None:
        return f"Pool {pool} is {closed}: nothing starts there until an operator resumes it."
    if max_workers == 0 and load.leased == 0:
        return f"Pool {pool} may have no GPU now: nothing starts there until it is given one."
    if load.waiting and load.leased == 0 and (oldest_wait_s or 0) > stalled_s:
        return (
            f"No GPU of pool {pool} has taken a job for {_minutes(oldest_wait_s or 0)}, though jobs wait: nobody can "
            "say when one will."
        )
    return None


def in_words(wait: Range) -> str:
    """The range as one would say it."""
    return f"{_span(wait.p50_ms)} most likely, {_span(wait.p90_ms)} at the outside"


def _minutes(seconds: float) -> str:
    return f"{round(seconds / 60)} minutes" if seconds >= 90 else f"{round(seconds)} seconds"


def _span(ms: int) -> str:
    seconds = ms / 1000
    if seconds < 1:
        return "at once"
    if seconds < 90:
        return f"about {round(seconds)} s"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"
