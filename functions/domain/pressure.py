"""When a pool has more work than it can bear: who is refused, who gets less, and when that ends."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from math import ceil
from typing import Any

from functions.domain.errors import Rejected
from functions.domain.estimate import Load
from functions.domain.workflow import Workflow

FULL = 2.0  # times a mark: from here on, less is too much as well
LEAST_RETRY_S, MOST_RETRY_S = 5, 3600
LESS = 2  # a degraded request gets one part in so many


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Above which a pool is saturated; 0: no such mark. recovered_share: of a mark, below which it has recovered."""

    depth: int
    wait_s: float
    recovered_share: float

    def level(self, load: Load, *, drain_s: float) -> float:
        """How full the pool is, as a share of the mark it is nearest to; drain_s: seconds of work that wait."""
        by_depth = load.backlog / self.depth if self.depth else 0.0
        by_wait = drain_s / self.wait_s if self.wait_s else 0.0
        return max(by_depth, by_wait)

    def saturated(self, level: float, *, was: bool) -> bool:
        """Whether the pool is saturated now: from above its mark until it has recovered, so that it does not change
        its mind with every job."""
        return level > 1 or (was and level >= self.recovered_share)

    def retry_after_s(self, level: float, *, drain_s: float) -> int:
        """When the pool may have recovered, if nothing new came."""
        wait_s = drain_s * (1 - self.recovered_share / level) if level else 0.0
        return round(min(MOST_RETRY_S, max(LEAST_RETRY_S, wait_s)))


class Verdict(Enum):
    """What becomes of a request."""

    FLOWS = auto()
    GETS_LESS = auto()
    REFUSED = auto()


def verdict(level: float, *, saturated: bool, pressed: bool, may_degrade: bool) -> Verdict:
    """pressed: whether the asker's role is one of those a saturated pool refuses."""
    if not (saturated and pressed):
        return Verdict.FLOWS
    return Verdict.GETS_LESS if may_degrade and level <= FULL else Verdict.REFUSED


def less(workflow: Workflow, parameters: Mapping[str, Any]) -> dict[str, int]:
    """Parameters that make the job smaller, within the workflow's bounds: half the pictures, or, of one picture, half
    the steps; empty when it cannot be smaller."""
    for name in ("images", "steps"):
        asked, declared = parameters.get(name), workflow.parameters.get(name)
        if declared is None or not isinstance(asked, int):
            continue
        given = ceil(asked / LESS)
        given += -given % (declared.multiple_of or 1)
        try:
            declared.check(given)
        except Rejected:
            continue
        if given < asked:
            return {name: given}
    return {}
