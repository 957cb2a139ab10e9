"""Who waits how long when one user floods a pool: our order against first come, first served, and plain priority.

`make simulate` runs it, prints the table and draws the picture that the README shows. Time is simulated, the order is
not: places come from `functions/domain/place.py`, and the real scripts decide who holds, waits and is claimed, on a
Valkey of the simulation's own. The same requests and the same render times meet all three orders.
"""

import heapq
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from functions.adapters import queue
from functions.adapters.queue import Ticket
from functions.domain import place

POOL = "simulated"
WORKERS = 4
RENDER_S = 30.0  # mean
HOURS = 6
LOADS = (0.6, 1.2)
FLOODER = "flooder"
FLOOD = 300  # jobs, all at once
FLOOD_AT_S = 3600.0
SEEDS = 5
#: 50 users: 10 curators, 30 members of whom one floods, 10 of the low tier. Each asks as often as any other.
USERS = {
    f"{tier.lower()}-{n}": tier for tier, count in (("CURATOR", 10), ("USER", 29), ("LOW", 10)) for n in range(count)
}
TIER = USERS | {FLOODER: "USER"}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request of the stream."""

    id: str
    user: str
    at_s: float
    expected_s: float
    takes_s: float

    @property
    def tier(self) -> str:
        return TIER[self.user]


def stream(load: float, chance: random.Random) -> list[Asked]:
    """Requests worth this share of what the pool can render, the flood's among them."""
    moments = [FLOOD_AT_S] * FLOOD
    wanted = int(load * WORKERS * HOURS * 3600 / RENDER_S) - FLOOD
    moments += [chance.uniform(0, HOURS * 3600) for _ in range(wanted)]
    asked = []
    for number, at_s in enumerate(moments):
        expected_s = RENDER_S * chance.choice((0.5, 1.0, 1.0, 1.5))
        asked.append(
            Asked(
                id=f"job-{number}",
                user=FLOODER if number < FLOOD else chance.choice(list(USERS)),
                at_s=at_s,
                expected_s=expected_s,
                takes_s=expected_s * chance.lognormvariate(-0.03, 0.25),  # mean 1: the estimate is right on the whole
            )
        )
    return sorted(asked, key=lambda one: one.at_s)


class Order(Protocol):
    """A waiting line: what comes in, what goes to a free GPU, and what has ended there."""

    def put(self, asked: Asked) -> None: ...

    def take(self) -> Asked | None: ...

    def end(self, asked: Asked) -> None: ...


class ByKey:
    """The lowest key first: first come, first served, or plain priority."""

    def __init__(self, key: Callable[[Asked], tuple[float, ...]]) -> None:
        self._key = key
        self._line: list[tuple[tuple[float, ...], str, Asked]] = []

    def put(self, asked: Asked) -> None:
        heapq.heappush(self._line, (self._key(asked), asked.id, asked))

    def take(self) -> Asked | None:
        return heapq.heappop(self._line)[2] if self._line else None

    def end(self, asked: Asked) -> None:
        pass


@dataclass
class Ours:
    """The order as shipped: places from the domain, the rest from the queue's scripts."""

    live: dict[str, dict[str, place.Place]] = field(default_factory=dict)
    waiting: dict[str, Asked] = field(default_factory=dict)

    def put(self, asked: Asked) -> None:
        mine = self.live.setdefault(asked.user, {})
        found = place.place(
            submitted_ms=_ms(asked.at_s),
            behind_ms=max((one.finish_ms for one in mine.values()), default=None),
            cost_ms=_ms(asked.expected_s),
            users=sum(bool(jobs) for user, jobs in self.live.items() if user != asked.user) + 1,
            workers=WORKERS,
            head_start_ms=place.head_start_ms(asked.tier, 0),
        )
        mine[asked.id] = found
        self.waiting[asked.id] = asked
        queue.put(POOL, Ticket(job_id=asked.id, due_ms=found.due_ms, user_id=asked.user, tier=asked.tier, model="one"))

    def take(self) -> Asked | None:
        job_id = queue.claim(POOL, "worker")
        return self.waiting.pop(job_id) if job_id else None

    def end(self, asked: Asked) -> None:
        queue.release(POOL, asked.id, "worker")
        del self.live[asked.user][asked.id]


ORDERS: dict[str, Callable[[], Order]] = {
    "first come": lambda: ByKey(lambda asked: (asked.at_s,)),
    "plain priority": lambda: ByKey(lambda asked: (("CURATOR", "USER", "LOW").index(asked.tier), asked.at_s)),
    "ours": Ours,
}


def simulate(order: Order, asked: Sequence[Asked]) -> dict[str, float]:
    """How long each job waits for its GPU, in seconds, when these requests meet this order."""
    waits: dict[str, float] = {}
    ends: list[tuple[float, str, Asked]] = []
    coming = list(reversed(asked))
    while coming or ends:
        if coming and (not ends or coming[-1].at_s <= ends[0][0]):
            one = coming.pop()
            now_s = one.at_s
            order.put(one)
        else:
            now_s, _, one = heapq.heappop(ends)
            order.end(one)
        while len(ends) < WORKERS and (next_one := order.take()):
            waits[next_one.id] = now_s - next_one.at_s
            heapq.heappush(ends, (now_s + next_one.takes_s, next_one.id, next_one))
    return waits


def groups(asked: Sequence[Asked], waits: dict[str, float]) -> dict[str, list[float]]:
    """The waits by who waited: each tier without the flooder, the flooder, and everybody else's as one."""
    found: dict[str, list[float]] = {"curators": [], "members": [], "low tier": [], "the flooder": []}
    named = {"CURATOR": "curators", "USER": "members", "LOW": "low tier"}
    for one in asked:
        found["the flooder" if one.user == FLOODER else named[one.tier]].append(waits[one.id])
    return found


def unluckiest(asked: Sequence[Asked], waits: dict[str, float]) -> float:
    """The longest median wait of any one user who does not flood, in seconds."""
    of_user: dict[str, list[float]] = {}
    for one in asked:
        of_user.setdefault(one.user, []).append(waits[one.id])
    return max(statistics.median(waited) for user, waited in of_user.items() if user != FLOODER)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
