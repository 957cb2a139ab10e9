"""The queue once more, in plain Python: what lua/ does with counters and indexes, done by looking at every job."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

LOOK = 32
MOST_FILLED = 31


@dataclass
class Known:
    """A job as the queue knows it. place: line, tier, held, delayed or leased. lapsed: the moment it waits for, or its
    lease, is past. old: it came longer ago than a warm runner may pass over."""

    due_ms: int
    user: str
    tier: str
    model: str
    place: str = ""
    worker: str = ""
    lapsed: bool = False
    old: bool = False
    lane: bool = False


@dataclass
class Model:
    cap: int
    workers: int
    limit: int
    tier_limits: dict[str, int]
    jobs: dict[str, Known] = field(default_factory=dict)
    paused: bool = False
    blocked: set[str] = field(default_factory=set)

    # --- what can be counted ---

    def at(self, *places: str, having: Callable[[Known], bool] = lambda _: True) -> list[str]:
        """The jobs in these places, first due first."""
        found = [name for name, job in self.jobs.items() if job.place in places and having(job)]
        return sorted(found, key=lambda name: (self.jobs[name].due_ms, name))

    def slots(self, user: str) -> int:
        return len(self.at("line", "tier", "leased", having=lambda job: job.user == user))

    def flight(self, user: str) -> int:
        return len(self.at("leased", having=lambda job: job.user == user))

    def of_tier(self, tier: str) -> int:
        return len(self.at("line", "leased", having=lambda job: job.tier == tier))

    def has_room(self, tier: str) -> bool:
        return self.of_tier(tier) < self.tier_limits.get(tier, math.inf)

    def held(self, user: str) -> list[str]:
        return self.at("held", having=lambda job: job.user == user)

    @property
    def closed(self) -> set[str]:
        full = self.limit and len(self.at("leased")) >= self.limit
        return ({"operator"} if self.paused else set()) | ({"limit"} if full else set())

    @property
    def heads(self) -> dict[str, str]:
        """Each user's first held job, by user; a blocked one has none that may be let in."""
        users = {job.user for job in self.jobs.values()} - self.blocked
        return {user: held[0] for user in users if (held := self.held(user))}

    # --- how jobs move ---

    def advance(self, name: str) -> None:
        job = self.jobs[name]
        job.place = ""
        job.place = "line" if self.has_room(job.tier) else "tier"

    def join(self, name: str) -> None:
        job = self.jobs[name]
        job.place, job.worker, job.lapsed = "", "", False
        if job.user in self.blocked or self.slots(job.user) >= self.cap:
            job.place = "held"
        else:
            self.advance(name)

    def leave(self, name: str) -> None:
        """Out of its place; who can have what it took up has it."""
        job = self.jobs[name]
        had, job.place = job.place, ""
        if had in ("line", "leased"):
            for waiting in self.at("tier", having=lambda other: other.tier == job.tier):
                if self.has_room(job.tier):
                    self.jobs[waiting].place = "line"
        if had in ("line", "leased", "tier") and job.user not in self.blocked and self.slots(job.user) < self.cap:
            for waiting in self.held(job.user)[:1]:
                self.advance(waiting)

    def come_back(self, name: str) -> None:
        job = self.jobs[name]
        if job.user in self.blocked:
            self.leave(name)
            job.place = "held"
        else:
            job.place = "line"
        job.worker, job.lapsed = "", False

    def fill(self) -> None:
        if self.at("line"):
            return
        for _ in range(max(1, min(MOST_FILLED, self.workers - len(self.at("leased"))))):
            heads = [name for name in self.heads.values() if self.has_room(self.jobs[name].tier)]
            if not heads:
                return
            self.advance(min(heads, key=lambda name: self.jobs[name].due_ms))

    def due_back(self) -> int:
        lapsed = sorted(name for name in self.at("leased") if self.jobs[name].lapsed)
        ripe = sorted(name for name in self.at("delayed") if self.jobs[name].lapsed)
        for name in lapsed:
            self.come_back(name)
        for name in ripe:
            self.join(name)
        if lapsed or ripe:
            self.fill()
        return len(lapsed) + len(ripe)

    # --- what is asked of the queue ---

    def put(self, name: str, job: Known, *, later: bool = False) -> bool:
        if name in self.jobs:
            return False
        self.jobs[name] = job
        if later:
            job.place = "delayed"
        else:
            self.join(name)
            self.fill()
        return True

    def claim(self, worker: str, model: str | None) -> str | None:
        self.due_back()
        line = self.at("line")[:LOOK]
        if not line or self.closed:
            return None
        chosen = self._choice(line, model)
        job = self.jobs[chosen]
        job.place, job.worker = "leased", worker
        self.fill()
        return chosen

    def _choice(self, line: list[str], model: str | None) -> str:
        fair = [name for name in line if self.flight(self.jobs[name].user) < self.cap]
        for name in fair if model else ():
            job = self.jobs[name]
            if job.model == model:
                return name
            if job.old or job.lane:
                break
        return (fair or line)[0]

    def remove(self, name: str) -> bool:
        if name not in self.jobs:
            return False
        self.leave(name)
        del self.jobs[name]
        self.fill()
        return True

    def release(self, name: str, worker: str, *, give_back: bool) -> bool:
        job = self.jobs.get(name)
        if job is None or job.worker != worker:
            return False
        if not give_back:
            return self.remove(name)
        self.come_back(name)
        self.fill()
        return True

    def retry(self, name: str, job: Known) -> None:
        if name in self.jobs:
            job.old = self.jobs[name].old
            self.leave(name)
        job.place = "delayed"
        self.jobs[name] = job
        self.fill()

    def hold(self, name: str, job: Known, worker: str, *, force: bool = False) -> bool:
        was = self.jobs.get(name)
        if was is not None and not force:
            return False
        if was is None or was.worker != worker:
            # It counts as leased before it leaves where it stood, so that nobody is let in instead of it.
            job.place, job.worker, job.old = "leased", worker, was is not None and was.old
            self.jobs[name] = job
            if was is not None:
                self.jobs["\0leaving"] = was
                self.leave("\0leaving")
                del self.jobs["\0leaving"]
        self.jobs[name].lapsed = False
        self.fill()
        return True

    def block(self, user: str) -> None:
        self.blocked.add(user)
        for name in self.at("line", "tier", having=lambda job: job.user == user):
            self.leave(name)
            self.jobs[name].place = "held"
        self.fill()

    def unblock(self, user: str) -> None:
        self.blocked.discard(user)
        while self.slots(user) < self.cap and self.held(user):
            self.advance(self.held(user)[0])
        self.fill()

    def reap(self) -> int:
        back = self.due_back()
        self.fill()
        return back
