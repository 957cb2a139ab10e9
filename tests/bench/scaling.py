"""How many GPU pods are started for nothing: KEDA's arithmetic with the shipped ScaledJob's numbers, simulated.

The formula is the one the local stack scales by, taken from KEDA's source (`functions/stack/autoscaler.py`); the
numbers are those of `keda/scaledjob.yaml`. A pod that finds no job when it comes to claim is one too many.
"""

import heapq
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from bench.row import Goal, Measure, Row
from bench.servers import ROOT, Servers
from functions.stack import autoscaler

MANIFEST = ROOT / "keda" / "scaledjob.yaml"
SEEDS = 10
JOBS = 2_000
WORK_S = 60.0  # mean
PREPARE_S = (30.0, 60.0)  # from the pod's creation to its claim, on a node that is there
NEW_NODE_S = 240.0  # the same where a node has to come first
NEW_NODES = 0.1  # of all pods
PROBE_S = 1.0  # until the kubelet has seen the readiness file
LINGERS_S = 2.0  # a pod that ended is not Ready, until its Job counts as finished
LOADS = (0.3, 0.8, 1.3)  # of what the pool can do, ten minutes each in turn
RETRIED = 0.03  # of all attempts fail, and wait in `delayed`, where KEDA does not count them
BACKOFF_S = 10.0
CALLED_OFF = 0.01  # of all jobs, within their first two minutes if they still wait: a pod may be on its way for them


@dataclass
class Pool:
    """One pool's pods and queue, under a ScaledJob."""

    manifest: Any
    chance: random.Random
    waiting: int = 0
    running: int = 0
    pending: int = 0
    surplus: int = 0
    started: int = 0
    done: int = 0
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _count: int = 0
    now_s: float = 0.0

    def run(self) -> None:
        """Until all jobs are done and the last pod is gone."""
        most = self.manifest["maxReplicaCount"]
        metadata = self.manifest["triggers"][0]["metadata"]
        capacity = most / (WORK_S + statistics.mean(PREPARE_S))
        at_s = 0.0
        for _ in range(JOBS):
            at_s += self.chance.expovariate(capacity * LOADS[int(at_s // 600) % len(LOADS)])
            self._at(at_s, self._arrive)
            if self.chance.random() < CALLED_OFF:
                self._at(at_s + self.chance.uniform(0, 120), self._call_off)

        def poll() -> None:
            for _ in range(
                autoscaler.to_start(
                    waiting=self.waiting,
                    running=self.running,
                    pending=self.pending,
                    most=most,
                    jobs_per_runner=int(metadata["listLength"]),
                )
            ):
                self._start()
            if self.done < JOBS or self.running:
                self._at(self.now_s + self.manifest["pollingInterval"], poll)

        self._at(0.0, poll)
        while self._events:
            self.now_s, _, happen = heapq.heappop(self._events)
            happen()

    def _at(self, at_s: float, happen: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (at_s, self._count, happen))

    def _arrive(self) -> None:
        self.waiting += 1

    def _call_off(self) -> None:
        if self.waiting:
            self.waiting -= 1
            self.done += 1

    def _start(self) -> None:
        self.started += 1
        self.running += 1
        self.pending += 1
        new_node = self.chance.random() < NEW_NODES
        self._at(self.now_s + (NEW_NODE_S if new_node else self.chance.uniform(*PREPARE_S)), self._claim)

    def _claim(self) -> None:
        if self.waiting == 0:
            self.surplus += 1
            self._at(self.now_s + LINGERS_S, self._gone)
            return
        self.waiting -= 1
        self._at(self.now_s + self.chance.uniform(0, PROBE_S), self._ready)
        self._at(self.now_s + PROBE_S + self.chance.expovariate(1 / WORK_S), self._end)

    def _ready(self) -> None:
        self.pending -= 1

    def _end(self) -> None:
        self.pending += 1
        self._at(self.now_s + LINGERS_S, self._gone)
        if self.chance.random() < RETRIED:
            self._at(self.now_s + self.chance.uniform(0, BACKOFF_S), self._arrive)
        else:
            self.done += 1

    def _gone(self) -> None:
        self.running -= 1
        self.pending -= 1


def scale_waste(row: Measure, servers: Servers) -> Row:
    """Pods started for nothing, for each job, over ten runs of the simulation."""
    documents = yaml.safe_load_all(MANIFEST.read_text())
    manifest = next(one["spec"] for one in documents if one and one["kind"] == "ScaledJob")
    assert manifest["scalingStrategy"]["pendingPodConditions"] == ["Ready"], "the simulation counts pods as pending so"
    pools = [Pool(manifest, random.Random(seed)) for seed in range(SEEDS)]
    for pool in pools:
        pool.run()
    surplus = sum(pool.surplus for pool in pools)
    ratio = surplus / (SEEDS * JOBS)
    return row.row(
        value=float(surplus),
        reference_value=float(SEEDS * JOBS),
        ratio=ratio,
        ok=row.goal.met(ratio),
        rounds=SEEDS,
        note=f"simulated; {sum(pool.started for pool in pools)} pods",
    )


ROWS = [
    Measure(
        name="scale_waste",
        unit="pods for nothing",
        reference="jobs",
        goal=Goal(most=0.01),
        about="pods that find no job, under KEDA's `accurate` with the shipped ScaledJob (simulated)",
        run=scale_waste,
    )
]
