"""The queue beside a model of it, through any interleaving: no job is lost or claimed twice, nothing idles while it can
run, the caps hold while others wait, and every count is what the sets say."""

import copy
import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from queue_model import Known, Model

from functions.adapters import queue
from functions.adapters.queue import BLOCKED, Ticket
from functions.config import config

pytestmark = pytest.mark.usefixtures("stack", "limits")
SOON = timedelta(hours=1)
START_MS = 1_767_225_600_000
LANE_MS = 10**12
USERS = ("ada", "bob", "cleo")
TIERS = ("USER", "LOW", "ADMIN")
MODELS = ("sd15", "sdxl")
WORKERS = ("w-1", "w-2", "w 3")
NAMES = tuple(f"job-{n:02}" for n in range(12))
WORKERS_OF_POOL = 3
POOLS = {"free": 0, "limited": 2}


@pytest.fixture(scope="module")
def limits() -> Iterator[None]:
    """Pools that no runner serves, with few workers and small limits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POOLS", ",".join(f"{pool}*{WORKERS_OF_POOL}" for pool in POOLS))
        patch.setenv("MAX_IN_FLIGHT_PER_POOL", "limited=2")
        patch.setenv("MAX_IN_FLIGHT_PER_ROLE", "low = 1")
        config.cache_clear()
        yield
    config.cache_clear()


@st.composite
def jobs(draw: st.DrawFn) -> tuple[str, Known]:
    """A job as it is asked for, by its name; no two are due at once."""
    number = draw(st.integers(0, len(NAMES) - 1))
    tier = draw(st.sampled_from(TIERS))
    lane = tier == "ADMIN"
    due_ms = START_MS + draw(st.integers(-3, 3)) * 60_000 + number - (LANE_MS if lane else 0)
    user, model = draw(st.sampled_from(USERS)), draw(st.sampled_from(MODELS))
    return NAMES[number], Known(due_ms=due_ms, user=user, tier=tier, model=model, lane=lane)


CLAIMS = st.lists(st.tuples(st.sampled_from(WORKERS), st.sampled_from((None, *MODELS))), min_size=1, max_size=4)


def leased(machine: "AQueue") -> bool:
    return bool(machine.model.at("leased"))


class AQueue(RuleBasedStateMachine):
    """Redis, and `model`, what it should know; `truth` is what Postgres would say: who waits, who runs where."""

    @initialize(pool=st.sampled_from(sorted(POOLS)), some=st.lists(jobs(), min_size=3, max_size=9))
    def begin_with(self, pool: str, some: list[tuple[str, Known]]) -> None:
        self.pool = pool
        self.model = Model(cap=2, workers=WORKERS_OF_POOL, limit=POOLS[pool], tier_limits={"LOW": 1})
        self.truth: dict[str, tuple[Known, str]] = {}  # the job as it was asked for, and its worker or ""
        self.snapshot: tuple[dict[str, bytes], Model] | None = None
        self.agrees = True
        self.forget()
        for one in some:
            self.put(one, later=False)

    def any_of(self, pick: int, names: Any) -> str | None:
        """One of these jobs, if there is one."""
        found = sorted(names)
        return found[pick % len(found)] if found else None

    def forget(self) -> None:
        if keys := self.keys():
            queue.client().delete(*keys)

    def keys(self) -> list[str]:
        return list(queue.client().scan_iter(queue.key(self.pool, "*"), count=1000))

    def ticket(self, name: str, job: Known, *, later: bool = False) -> Ticket:
        return Ticket(
            job_id=name,
            due_ms=job.due_ms,
            user_id=job.user,
            tier=job.tier,
            model=job.model,
            run_at=datetime.now(UTC) + SOON if later else None,
        )

    # --- jobs come, run and go ---

    @rule(one=jobs(), later=st.booleans())
    def put(self, one: tuple[str, Known], later: bool) -> None:
        name, job = one
        if name in self.truth:
            job = self.truth[name][0]  # told a second time
        elif name in self.model.jobs:
            return  # a job that is over, which Redis has dug out again: its name is never used twice
        self.truth.setdefault(name, (job, ""))
        told = queue.put(self.pool, self.ticket(name, job, later=later))
        assert told == self.model.put(name, copy.deepcopy(job), later=later)

    @rule(claims=CLAIMS)
    def claim(self, claims: list[tuple[str, str | None]]) -> None:
        for worker, warm in claims:
            waiting = bool(self.model.at("line")) and not self.model.closed
            name = queue.claim(self.pool, worker, model=warm)
            assert name == self.model.claim(worker, warm)
            assert name is not None or not waiting, "no runner leaves with nothing while something can run"
            if name is not None:
                self.begin(name, worker)

    def begin(self, name: str, worker: str) -> None:
        """What the runner does with a claim: Postgres decides (`Attempt.begin`)."""
        if name not in self.truth:
            assert not self.agrees, "only Redis set back hands out what is over"
            queue.release(self.pool, name, worker)
            self.model.release(name, worker, give_back=False)
            return
        job, holder = self.truth[name]
        if holder and holder != worker and not self.agrees:
            self.take_back(name)  # its runner lives, and takes the lease back before this one begins
            return
        self.truth[name] = (job, worker)

    @precondition(leased)
    @rule(pick=st.integers(0, 11))
    def give_a_sign_of_life(self, pick: int) -> None:
        name = self.any_of(pick, (name for name, (_, holder) in self.truth.items() if holder))
        if name:
            self.take_back(name)

    def take_back(self, name: str) -> None:
        """A sign of life, and when Redis does not know better, what Postgres says (`Lease`)."""
        job, holder = self.truth[name]
        known = self.model.jobs.get(name)
        mine = known is not None and known.worker == holder
        assert queue.extend(self.pool, name, holder) == mine
        if mine:
            self.model.jobs[name].lapsed = False
        else:
            assert queue.hold(self.pool, self.ticket(name, job), holder, force=True)
            assert self.model.hold(name, copy.deepcopy(job), holder, force=True)

    @rule(name=st.sampled_from(NAMES), worker=st.sampled_from(WORKERS))
    def somebody_extends(self, name: str, worker: str) -> None:
        known = self.model.jobs.get(name)
        mine = known is not None and known.worker == worker
        assert queue.holds(self.pool, name, worker) == mine
        assert queue.extend(self.pool, name, worker) == mine
        if mine:
            self.model.jobs[name].lapsed = False

    @precondition(leased)
    @rule(pick=st.integers(0, 11), give_back=st.booleans())
    def release(self, pick: int, give_back: bool) -> None:
        name = self.any_of(pick, (name for name, (_, holder) in self.truth.items() if holder))
        if name is None:
            return
        job, holder = self.truth[name]
        released = queue.release(self.pool, name, holder, give_back=give_back)
        assert released == self.model.release(name, holder, give_back=give_back)
        if give_back:
            self.truth[name] = (job, "")
        else:
            del self.truth[name]
        if not released and not give_back:
            assert queue.remove(self.pool, name) == self.model.remove(name)  # as complete does

    @rule(name=st.sampled_from(NAMES), worker=st.sampled_from(WORKERS))
    def a_stranger_releases(self, name: str, worker: str) -> None:
        known = self.model.jobs.get(name)
        if known is None or known.worker != worker:
            assert not queue.release(self.pool, name, worker)

    @precondition(leased)
    @rule(pick=st.integers(0, 11))
    def retry(self, pick: int) -> None:
        name = self.any_of(pick, self.truth)
        if name is None:
            return
        job = self.truth[name][0]
        self.truth[name] = (job, "")
        queue.retry(self.pool, self.ticket(name, job, later=True))
        self.model.retry(name, copy.deepcopy(job))

    @rule(name=st.sampled_from(NAMES))
    def remove(self, name: str) -> None:
        self.truth.pop(name, None)
        assert queue.remove(self.pool, name) == self.model.remove(name)

    # --- time ---

    @precondition(lambda self: self.model.at("leased", "delayed"))
    @rule(pick=st.integers(0, 11))
    def lapse(self, pick: int) -> None:
        name = self.any_of(pick, self.model.at("leased", "delayed"))
        if name:
            known = self.model.jobs[name]
            queue.client().zadd(queue.key(self.pool, "leases" if known.worker else "delayed"), {name: 1}, xx=True)
            known.lapsed = True

    @rule(pick=st.integers(0, 11))
    def grow_old(self, pick: int) -> None:
        name = self.any_of(pick, self.model.jobs)
        if name:
            parts = queue.client().hget(queue.key(self.pool, "jobs"), name).split("\0")
            queue.client().hset(queue.key(self.pool, "jobs"), name, "\0".join([*parts[:4], "1", *parts[5:]]))
            self.model.jobs[name].old = True
            self.model.jobs[name].lane = False  # counted from the moment it came

    @rule()
    def reap(self) -> None:
        assert queue.reap(self.pool) == self.model.reap()

    # --- operators ---

    @rule(paused=st.sampled_from((False, False, True)))
    def pause_or_resume(self, paused: bool) -> None:
        (queue.close if paused else queue.open_)(self.pool, "operator")
        self.model.paused = paused

    @rule(user=st.sampled_from(USERS), blocked=st.sampled_from((False, False, True)))
    def block_or_unblock(self, user: str, blocked: bool) -> None:
        if not blocked:
            queue.unblock(self.pool, user)
            self.model.unblock(user)
            return
        theirs = [name for name, (job, holder) in self.truth.items() if job.user == user and not holder]
        if not self.agrees:
            theirs = self.model.at("line", "tier", having=lambda job: job.user == user)
        queue.block(self.pool, user, theirs)
        self.model.block(user)

    # --- Redis loses its memory ---

    @rule()
    def remember(self) -> None:
        raw = queue.client().connection_pool.connection_kwargs | {"decode_responses": False}
        with queue.redis.Redis(**{k: v for k, v in raw.items() if k in RAW}) as binary:
            self.snapshot = ({key: binary.dump(key) for key in self.keys()}, copy.deepcopy(self.model))

    @precondition(lambda self: self.snapshot is not None)
    @rule(claims=CLAIMS, mended=st.sampled_from((True, True, False)))
    def set_back(self, claims: list[tuple[str, str | None]], mended: bool) -> None:
        assert self.snapshot is not None
        self.forget()
        for key, value in self.snapshot[0].items():
            queue.client().restore(key, 0, value)
        self.model = copy.deepcopy(self.snapshot[1])
        self.agrees = False
        self.claim(claims)
        if mended:
            self.rebuild()

    @rule(claims=CLAIMS, mended=st.sampled_from((True, True, False)))
    def lose(self, claims: list[tuple[str, str | None]], mended: bool) -> None:
        self.forget()
        self.model = Model(
            cap=self.model.cap, workers=self.model.workers, limit=self.model.limit, tier_limits=self.model.tier_limits
        )
        self.agrees = False
        self.claim(claims)
        if mended:
            self.rebuild()

    @precondition(lambda self: not self.agrees)
    @rule()
    def rebuild(self) -> None:
        """As `adapters/rebuild.py` does, from `truth`."""
        unknown = queue.unknown(self.pool, sorted(self.truth))
        assert unknown == self.truth.keys() - self.model.jobs.keys()
        for name in sorted(unknown):
            job, holder = self.truth[name]
            if holder:
                assert queue.hold(self.pool, self.ticket(name, job), holder)
                self.model.hold(name, copy.deepcopy(job), holder)
            else:
                assert queue.put(self.pool, self.ticket(name, job))
                self.model.put(name, copy.deepcopy(job))
        found = {name for page in queue.scan(self.pool) for name in page}
        assert found == self.model.jobs.keys()
        for name in sorted(found - self.truth.keys()):
            assert queue.remove(self.pool, name)
            self.model.remove(name)
        for name, (_, holder) in sorted(self.truth.items()):
            if holder:
                self.take_back(name)  # runners that live say so within a second
        self.agrees = True

    # --- what holds at any time ---

    @invariant()
    def every_job_stands_where_the_model_says(self) -> None:
        line = "parked" if self.model.closed else "queue"
        sets = {"line": [line], "leased": ["leases"], "delayed": ["delayed"]}
        sets["held"] = [f"held:{user}" for user in USERS]
        sets["tier"] = [f"tier:{tier}" for tier in TIERS]
        for place, parts in sets.items():
            found = [name for part in parts for name in queue.client().zrange(queue.key(self.pool, part), 0, -1)]
            assert sorted(found) == sorted(self.model.at(place)), place
        assert queue.client().exists(queue.key(self.pool, "queue" if self.model.closed else "parked")) == 0
        assert queue.closed(self.pool) == self.model.closed
        assert queue.blocked(self.pool) == self.model.blocked

    @invariant()
    def the_line_is_in_the_order_of_due_times(self) -> None:
        key = queue.key(self.pool, "parked" if self.model.closed else "queue")
        line = queue.client().zrange(key, 0, -1, withscores=True)
        assert line == [(name, self.model.jobs[name].due_ms) for name in self.model.at("line")]

    @invariant()
    def every_count_is_what_the_sets_say(self) -> None:
        def counts(part: str) -> dict[str, int]:
            return {name: int(count) for name, count in queue.client().hgetall(queue.key(self.pool, part)).items()}

        for part, count in (("slots", self.model.slots), ("flight", self.model.flight)):
            expected = {user: count(user) for user in USERS}
            if part == "slots":
                expected = {u: n + (BLOCKED if u in self.model.blocked else 0) for u, n in expected.items()}
            assert counts(part) == {user: n for user, n in expected.items() if n}, part
        assert +Counter(counts("tiers")) == +Counter({tier: self.model.of_tier(tier) for tier in TIERS})
        heads = {
            user: (tier, score)
            for tier in TIERS
            for user, score in queue.client().zrange(queue.key(self.pool, f"heads:{tier}"), 0, -1, withscores=True)
        }
        first = {user: self.model.jobs[name] for user, name in self.model.heads.items()}
        assert heads == {user: (job.tier, job.due_ms) for user, job in first.items()}

    @invariant()
    def what_is_asked_of_the_depth_is_told(self) -> None:
        line = len(self.model.at("line"))
        depth = queue.depth(self.pool)
        assert depth == {
            "waiting": 0 if self.model.closed else line,
            "parked": line if self.model.closed else 0,
            "leased": len(self.model.at("leased")),
            "delayed": len(self.model.at("delayed")),
            "held": len(self.model.at("held", "tier")),
        }
        for user in USERS:
            waiting = self.model.at("line", "held", "tier", having=lambda job, user=user: job.user == user)
            assert queue.waiting_of_user(self.pool, user) == len(waiting)

    @invariant()
    def nothing_waits_for_room_that_there_is(self) -> None:
        if not self.model.at("line"):
            assert not [n for n in self.model.heads.values() if self.model.has_room(self.model.jobs[n].tier)]

    @invariant()
    def limits_hold_but_for_what_was_at_work_already(self) -> None:
        assert all(self.model.flight(user) <= self.model.slots(user) for user in USERS)

    @invariant()
    def no_job_is_lost(self) -> None:
        if self.agrees:
            assert self.model.jobs.keys() == self.truth.keys()

    def teardown(self) -> None:
        if hasattr(self, "pool"):
            self.forget()


RAW = ("host", "port", "db", "username", "password", "decode_responses")


def test_the_queue_does_what_its_model_does() -> None:
    run_state_machine_as_test(AQueue, settings=settings(max_examples=60, stateful_step_count=50, deadline=None))


INVARIANTS = (
    AQueue.every_job_stands_where_the_model_says,
    AQueue.the_line_is_in_the_order_of_due_times,
    AQueue.every_count_is_what_the_sets_say,
    AQueue.what_is_asked_of_the_depth_is_told,
    AQueue.nothing_waits_for_room_that_there_is,
    AQueue.no_job_is_lost,
)


def a_step(machine: AQueue, chance: random.Random) -> None:
    """Something that happens on a busy day, often what happens often."""

    def pick() -> int:
        return chance.randrange(12)

    def claims() -> list[tuple[str, str | None]]:
        return [(chance.choice(WORKERS), chance.choice((None, *MODELS))) for _ in range(chance.randint(1, 4))]

    def put() -> None:
        number, tier = pick(), chance.choice(TIERS)
        lane = tier == "ADMIN"
        due_ms = START_MS + chance.randint(-3, 3) * 60_000 + number - (LANE_MS if lane else 0)
        job = Known(due_ms=due_ms, user=chance.choice(USERS), tier=tier, model=chance.choice(MODELS), lane=lane)
        machine.put((NAMES[number], job), chance.random() < 0.2)

    often: tuple[Callable[[], None], ...] = (
        put,
        put,
        lambda: machine.claim(claims()),
        lambda: machine.release(pick(), chance.random() < 0.3),
    )
    sometimes: tuple[Callable[[], None], ...] = (
        lambda: machine.give_a_sign_of_life(pick()),
        lambda: machine.somebody_extends(chance.choice(NAMES), chance.choice(WORKERS)),
        lambda: machine.a_stranger_releases(chance.choice(NAMES), chance.choice(WORKERS)),
        lambda: machine.retry(pick()),
        lambda: machine.remove(chance.choice(NAMES)),
        lambda: machine.lapse(pick()),
        lambda: machine.grow_old(pick()),
        machine.reap,
        lambda: machine.pause_or_resume(chance.random() < 0.3),
        lambda: machine.block_or_unblock(chance.choice(USERS), chance.random() < 0.3),
    )
    seldom: tuple[Callable[[], None], ...] = (
        machine.remember,
        lambda: machine.set_back(claims(), chance.random() < 0.7) if machine.snapshot else None,
        lambda: machine.lose(claims(), chance.random() < 0.7),
        lambda: None if machine.agrees else machine.rebuild(),
    )
    chance.choice(chance.choices((often, sometimes, seldom), weights=(6, 5, 1))[0])()


@pytest.mark.parametrize("pool", sorted(POOLS))
@pytest.mark.parametrize("seed", range(3))
def test_the_queue_does_what_its_model_does_on_a_busy_day(pool: str, seed: int) -> None:
    machine, chance = AQueue(), random.Random(f"{pool} {seed}")
    machine.begin_with(pool, [])
    for _ in range(400):
        a_step(machine, chance)
        for holds in INVARIANTS:
            holds(machine)
    machine.teardown()
