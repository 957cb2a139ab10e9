"""Where a job stands in the line: one number, lower runs first, and every term of it can be told to its owner.

    due = start - head start

The start is the moment the job was asked for, or, while its user has other work in the pool, the moment by which that
work will have had its fair share (start-time fair queueing: Goyal, Vin and Cheng, SIGCOMM 1996). So a user with one job
is served first come, first served, and each job of a flood pushes the flood's own next one back and nobody else's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from functions.domain.price import REFERENCE_STEPS

#: Ahead of everybody: more than anybody else's wait, and little enough that a due time stays exact.
LANE_MS = 10**12
BOOST = "BOOST"
#: What a tier is worth, in ms of head start, unless configured: an admin passes every line, a member starts level.
HEAD_START_MS: Mapping[str, int] = MappingProxyType(
    {"ADMIN": LANE_MS, "CURATOR": 30 * 60_000, "USER": 0, "LOW": -30 * 60_000, BOOST: 60 * 60_000},
)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A job's place and the terms it comes from, all in ms; start, finish and due are unix times.

    cost_ms: what the job is expected to take of one GPU. finish_ms: where its user's next job in this pool starts.
    """

    start_ms: int
    cost_ms: int
    finish_ms: int
    due_ms: int


def place(
    *,
    submitted_ms: int,
    behind_ms: int | None,
    cost_ms: int,
    users: int,
    workers: int,
    head_start_ms: int,
) -> Place:
    """The place of a job of this cost.

    behind_ms: the last finish among its user's live jobs in the pool; None: it has none. users: how many have live jobs
    in the pool; workers: how many GPUs it has. A user's fair share is one part in `users` of all the workers.
    """
    start_ms = submitted_ms if behind_ms is None else max(submitted_ms, behind_ms)
    share_ms = max(1, cost_ms * max(1, users) // max(1, workers))
    return Place(
        start_ms=start_ms,
        cost_ms=cost_ms,
        finish_ms=start_ms + share_ms,
        due_ms=due_ms(start_ms=start_ms, head_start_ms=head_start_ms),
    )


def due_ms(*, start_ms: int, head_start_ms: int) -> int:
    """due = start - head start, unix ms.

    Stays under 2**53, the last whole number a Redis score holds exactly (ZADD).
    """
    return start_ms - head_start_ms


def head_start_ms(role: str, boost: int, *, worth_ms: Mapping[str, int] = HEAD_START_MS) -> int:
    """What a tier and a paid boost are worth together: the better of the two. A role nobody knows starts level."""
    of_tier_ms = worth_ms.get(role.upper(), 0)
    return max(of_tier_ms, worth_ms.get(BOOST, 0)) if boost else of_tier_ms


def work(parameters: Mapping[str, Any], *, images: int, complexity: float = 1.0) -> float:
    """How much there is to paint, in megapixel-steps; a parameter the workflow does not have counts as the price's
    reference. `generator_job_work` in migrations/ says the same, without the complexity."""
    pixels: float = parameters.get("width", 1024) * parameters.get("height", 1024)
    steps: int = parameters.get("steps", REFERENCE_STEPS)
    return images * pixels * steps / 1e6 * complexity
