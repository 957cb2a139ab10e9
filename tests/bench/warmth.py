"""What a warm model is worth: how often GPUs load one, in a mixed stream, with and without our claim's preference."""

from dataclasses import replace

from bench.row import Goal, Measure, Row, alternate
from bench.servers import Servers
from functions.config import Config

JOBS = 400
ARRIVALS_S = 12.0
ROUNDS = 5
SLACK_S = 2.0  # Redis counts whole milliseconds, and the stream plays a thousand times as fast


def affinity_loads(row: Measure, servers: Servers) -> Row:
    """Loads with warm claims against plain order, under the shipped bound on passing anybody over."""
    bound_s = Config().affinity_bound_s
    actor = servers.python("bench.actors.warm", POOLS="bench*3", AFFINITY_BOUND_S=str(bound_s / 1000))
    longest_s: list[float] = []

    def loads(*, warm: bool, seeds: list[int]) -> float:
        servers.empty()
        found = actor.do("play", warm=warm, jobs=JOBS, arrivals_s=ARRIVALS_S, seed=seeds.pop())
        longest_s.append(found["passed_over_s"])
        return float(found["loads"])

    ours, plain = list(range(3 * ROUNDS + 1)), list(range(3 * ROUNDS + 1))
    pairs = alternate(lambda: loads(warm=True, seeds=ours), lambda: loads(warm=False, seeds=plain), rounds=ROUNDS)
    kept = max(longest_s) <= bound_s + SLACK_S
    said = (
        f"simulated; nobody was passed over after waiting more than {max(longest_s):.0f} s, the bound is {bound_s:g} s"
    )
    judged = row.judge(pairs, note=said)
    return judged if kept else replace(judged, ok=False)


ROWS = [
    Measure(
        name="affinity_loads",
        unit="model loads",
        reference="plain order",
        goal=Goal(most=0.5),
        about="loads in a mixed stream: 5 models, 3 GPUs, 20 s a render, 40 s a load (simulated with the real scripts)",
        run=affinity_loads,
    )
]
