"""How far a prompt is: frames become a phase, a node, a step and one percentage over the whole graph."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from functions.domain.graph import Graph

REPORT_EVERY_S = 0.1  # ten reports a second is more than an eye can use
STEPS_UNKNOWN = 20  # what a sampler weighs when its graph does not say how many steps it takes


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a render stands. percent: 0 .. 100 over the whole graph, never falling. While a model file is fetched,
    node_title names it and step, of steps, counts MiB."""

    phase: str  # fetching: a model file; preparing: models, texts; sampling; saving: decoding and what follows
    node: str | None = None
    node_title: str | None = None
    step: int | None = None
    steps: int | None = None
    percent: int = 0


class Tracker:
    """Listens to one prompt's frames; tells `report` of new phases at once, else ten times a second."""

    def __init__(self, graph: Graph, report: Callable[[Progress], None]) -> None:
        self._graph = graph
        self._report = report
        self._samplers = {node_id for node_id, node in graph.items() if "Sampler" in node["class_type"]}
        self._weights = {node_id: self._weight(node_id) for node_id in graph}
        self._done: set[str] = set()
        self._node: str | None = None
        self._step: tuple[int, int] | None = None
        self._told = Progress(phase="")
        self._told_at = 0.0
        self._started: float | None = None  # monotonic seconds, like the two below
        self._first_step: float | None = None
        self._last_step: float | None = None
        self._tell()

    def hear(self, frame: Mapping[str, Any]) -> None:
        """Take one frame of this prompt into account."""
        data = frame["data"]
        match frame.get("type"):
            case "execution_start":
                self._started = time.monotonic()
            case "execution_cached":
                self._done.update(data.get("nodes") or ())
            case "executing" if isinstance(data.get("node"), str):
                self._enter(data["node"])
            case "progress" if isinstance(data.get("node"), str):
                if data["node"] != self._node:
                    self._enter(data["node"])
                self._step = (int(data.get("value", 0)), max(int(data.get("max", 1)), 1))
                if data["node"] in self._samplers:
                    self._last_step = time.monotonic()
                    self._first_step = self._first_step or self._last_step
        self.flush()

    def flush(self) -> None:
        """Report what was held back, if its time has come or the phase is new."""
        if self._phase() != self._told.phase or time.monotonic() - self._told_at >= REPORT_EVERY_S:
            self._tell()

    def finish(self) -> None:
        """Report that everything is done."""
        self._node, self._step = None, None
        self._done = set(self._graph)
        self._tell(percent=100)

    def timings(self, *, posted: float) -> dict[str, int]:
        """Milliseconds of each part that was heard of; `posted` is when it began, in monotonic seconds."""
        parts: dict[str, tuple[float | None, float | None]] = {
            "wait_ms": (posted, self._started),
            "total_ms": (posted, time.monotonic()),
        }
        if self._samplers:
            parts["load_ms"] = (self._started, self._first_step)
            parts["sampling_ms"] = (self._first_step, self._last_step)
        return {
            name: round((end - begin) * 1000)
            for name, (begin, end) in parts.items()
            if begin is not None and end is not None
        }

    def _enter(self, node: str) -> None:
        if self._node is not None:
            self._done.add(self._node)
        self._node, self._step = node, None

    def _weight(self, node_id: str) -> int:
        steps = self._graph[node_id]["inputs"].get("steps", STEPS_UNKNOWN)
        return (steps if type(steps) is int else STEPS_UNKNOWN) if node_id in self._samplers else 1

    def _phase(self) -> str:
        if self._node in self._samplers:
            return "sampling"
        started = self._node is not None or bool(self._done)
        return "saving" if started and self._samplers <= self._done else "preparing"

    def _percent(self) -> int:
        done: float = sum(weight for node_id, weight in self._weights.items() if node_id in self._done)
        if self._step and self._node not in self._done:
            value, most = self._step
            done += self._weights.get(self._node or "", 0) * min(value / most, 1)
        return min(int(100 * done / sum(self._weights.values())), 99)

    def _tell(self, *, percent: int | None = None) -> None:
        node = self._graph.get(self._node) if self._node else None
        now = Progress(
            phase=self._phase(),
            node=self._node,
            node_title=(node.get("_meta") or {}).get("title") or node["class_type"] if node else None,
            step=self._step[0] if self._step else None,
            steps=self._step[1] if self._step else None,
            percent=max(percent if percent is not None else self._percent(), self._told.percent),
        )
        self._told_at = time.monotonic()
        if now != self._told:
            self._told = now
            self._report(now)
