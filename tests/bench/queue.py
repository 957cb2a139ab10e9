"""The waiting line at work: one enqueue, one claim, one job, against the least that can be done and against peers."""

import random
import time
from collections.abc import Callable

from bench.actor import Actor, rate
from bench.row import Goal, Measure, Pairs, Row, alternate
from bench.servers import PEERS, Servers

POOL = "bench"
OURS, FLOOR = "bench.actors.line", "bench.actors.floor"
HUEY, BULLMQ, BULLMQ_NODE = "bench.actors.huey_peer", "bench.actors.bullmq_peer", "bullmq.mjs"
COUNT = 2_000  # jobs a round
USERS = 1_000
PAYLOAD_BYTES = 100  # about what our record of a job holds
WAKES = 60  # a round
MANY = 50_000  # jobs whose memory is measured
MISSING = "the peers are not installed: `make bench` installs them"


def _fresh(servers: Servers, round_: Callable[[], float]) -> Callable[[], float]:
    """The round, on an empty server."""

    def run() -> float:
        servers.empty()
        return round_()

    return run


def enqueue(row: Measure, servers: Servers) -> Row:
    """Jobs put one by one; half of them wait beyond their user's share, as in a busy pool."""
    ours, floor = servers.python(OURS), servers.python(FLOOR)
    pairs = alternate(
        _fresh(servers, lambda: rate([ours], "put", pool=POOL, count=COUNT, users=USERS)),
        _fresh(servers, lambda: rate([floor], "put", pool=POOL, count=COUNT, payload_bytes=PAYLOAD_BYTES)),
    )
    return row.judge(pairs)


def claim(row: Measure, servers: Servers, *, clients: int) -> Row:
    """Claims by warm runners, nothing else, each client in a process of its own."""
    each = COUNT // clients
    ours = [servers.python(OURS, number) for number in range(clients)]
    floors = [servers.python(FLOOR, number) for number in range(clients)]

    def claimed() -> float:
        ours[0].do("fill", pool=POOL, count=COUNT + 500, users=COUNT * 2)
        return rate(ours, "claim", pool=POOL, count=each)

    def floor() -> float:
        floors[0].do("fill", pool=POOL, count=COUNT + 500, payload_bytes=PAYLOAD_BYTES)
        return rate(floors, "claim", pool=POOL, count=each)

    return row.judge(alternate(_fresh(servers, claimed), _fresh(servers, floor)))


def _ours_drained(servers: Servers) -> Callable[[], float]:
    ours = servers.python(OURS)

    def drained() -> float:
        ours.do("fill", pool=POOL, count=COUNT, users=USERS)
        return rate([ours], "drain", pool=POOL, count=COUNT)

    return _fresh(servers, drained)


def jobs_vs_floor(row: Measure, servers: Servers) -> Row:
    """Jobs that wait already, claimed and acknowledged by one worker."""
    floor = servers.python(FLOOR)

    def drained() -> float:
        floor.do("fill", pool=POOL, count=COUNT, payload_bytes=PAYLOAD_BYTES)
        return rate([floor], "drain", pool=POOL, count=COUNT)

    return row.judge(alternate(_ours_drained(servers), _fresh(servers, drained)))


def jobs_vs_peer(row: Measure, servers: Servers, *, peer: str, put: str) -> Row:
    """The same, against a peer's own worker."""
    if not (PEERS / ".ready").exists():
        return row.without(MISSING)
    theirs = servers.node(peer) if peer.endswith(".mjs") else servers.python(peer)

    def drained() -> float:
        theirs.do(put, count=COUNT)
        return rate([theirs], "drain", count=COUNT)

    return row.judge(alternate(_ours_drained(servers), _fresh(servers, drained)))


def bulk(row: Measure, servers: Servers, *, peer: str) -> Row:
    """Many jobs in as few round trips as each allows."""
    if not (PEERS / ".ready").exists():
        return row.without(MISSING)
    ours = servers.python(OURS)
    theirs = servers.node(peer) if peer.endswith(".mjs") else servers.python(peer)
    pairs = alternate(
        _fresh(servers, lambda: rate([ours], "bulk", pool=POOL, count=2 * COUNT, users=USERS)),
        _fresh(servers, lambda: rate([theirs], "bulk", count=2 * COUNT)),
    )
    return row.judge(pairs)


def wake(row: Measure, servers: Servers, *, share: float) -> Row:
    """From an enqueue to the moment an idle, warm runner has the job: this quantile of a round's, in ms."""
    chance = random.Random(7)
    gaps_s = [chance.uniform(0.01, 0.05) for _ in range(WAKES)]

    def lag_ms(runner: Actor, putter: Actor) -> float:
        servers.empty()
        runner.ask("await_each", count=WAKES)
        told = putter.do("wake_each", gaps_s=gaps_s)
        lags = sorted(1000 * (had - asked) for asked, had in zip(told, runner.answer(), strict=True))
        return lags[min(int(share * WAKES), WAKES - 1)]

    ours = [servers.python(OURS, number, POOL=POOL, POOLS=POOL) for number in range(2)]
    popper, pusher = (servers.python(FLOOR, number) for number in range(2))
    return row.judge(alternate(lambda: lag_ms(*ours), lambda: lag_ms(popper, pusher)))


def memory(row: Measure, servers: Servers) -> Row:
    """Bytes a waiting job takes, at an equal payload; the worse of ten jobs a user and of one a user."""
    ours, floor = servers.python(OURS), servers.python(FLOOR)
    found: list[Pairs] = []
    for users in (MANY // 10, MANY * 10):

        def kept(users: int = users) -> float:
            return _bytes_a_job(servers, lambda: ours.do("fill", pool=POOL, count=MANY, users=users))

        kept()
        payload_bytes = ours.do("record_bytes", pool=POOL, count=1000)

        def least(payload_bytes: int = payload_bytes) -> float:
            return _bytes_a_job(servers, lambda: floor.do("fill", pool=POOL, count=MANY, payload_bytes=payload_bytes))

        found.append(alternate(kept, least, rounds=5))
    return row.judge(max(found, key=lambda pairs: pairs.ratio))


def _bytes_a_job(servers: Servers, fill: Callable[[], None]) -> float:
    servers.empty()
    empty = _used_bytes(servers)
    fill()
    return (_used_bytes(servers) - empty) / MANY


def _used_bytes(servers: Servers) -> int:
    """What the server has allocated for data; not what it is about to write to clients and to its log."""
    while (found := servers.redis.info())["aof_rewrite_in_progress"]:
        time.sleep(0.05)
    return int(found["used_memory"] - found["mem_clients_normal"] - found["mem_aof_buffer"])


ROWS = [
    Measure(
        name="enqueue_vs_floor",
        unit="jobs/s",
        reference="one script: ZADD, HSET",
        goal=Goal(least=0.65),
        about="a job put, one at a time",
        run=enqueue,
    ),
    *(
        Measure(
            name=f"bulk_vs_{name}",
            unit="jobs/s",
            reference=f"{title} addBulk",
            goal=goal,
            about="many jobs put at once",
            run=lambda row, servers, peer=peer: bulk(row, servers, peer=peer),
        )
        for name, title, peer, goal in (
            ("bullmq", "BullMQ for Python,", BULLMQ, Goal(least=2.0)),
            ("bullmq_node", "BullMQ on Node,", BULLMQ_NODE, Goal()),
        )
    ),
    *(
        Measure(
            name=f"claim_vs_floor_{clients}",
            unit="claims/s",
            reference="one script: ZPOPMIN, ZADD",
            goal=Goal(least=least),
            about=f"the whole claim (order, lease, caps, warm models, reaping), {clients} at once",
            run=lambda row, servers, clients=clients: claim(row, servers, clients=clients),
        )
        for clients, least in ((1, 0.75), (2, 0.70))
    ),
    Measure(
        name="jobs_vs_floor",
        unit="jobs/s",
        reference="two scripts a job: claim, acknowledge",
        goal=Goal(least=0.6),
        about="waiting jobs that do nothing, through one worker",
        run=jobs_vs_floor,
    ),
    *(
        Measure(
            name=f"jobs_vs_{name}",
            unit="jobs/s",
            reference=title,
            goal=goal,
            about=about,
            run=lambda row, servers, peer=peer, put=put: jobs_vs_peer(row, servers, peer=peer, put=put),
        )
        for name, title, peer, put, goal, about in (
            ("huey", "huey, priorities, one thread", HUEY, "put", Goal(least=0.9), "the same; a crash loses huey's"),
            ("bullmq", "BullMQ for Python, concurrency 1", BULLMQ, "bulk", Goal(least=2.0), "the same; leased as ours"),
            ("bullmq_node", "BullMQ on Node, concurrency 1", BULLMQ_NODE, "bulk", Goal(), "the same; leased as ours"),
        )
    ),
    Measure(
        name="bytes_vs_floor",
        unit="bytes",
        reference="a zset and a hash, equal payload",
        goal=Goal(most=1.3),
        about="memory of Redis for one waiting job",
        run=memory,
    ),
    *(
        Measure(
            name=f"wake_vs_blpop_{name}",
            unit="ms",
            reference="RPUSH to BLPOP",
            goal=Goal(most=most),
            about=f"{name} from an enqueue until an idle warm runner has the job",
            run=lambda row, servers, share=share: wake(row, servers, share=share),
        )
        for name, share, most in (("p50", 0.5, 1.6), ("p99", 0.99, 2.0))
    ),
]
