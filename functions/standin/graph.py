"""A graph as the executor sees it: links, signatures that decide what is cached, and the order nodes run in."""

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any

Graph = dict[str, dict[str, Any]]


def is_link(value: object) -> bool:
    """Whether an input is `[node_id, slot]` and not a value."""
    return (
        isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int | float)
    )


def digest(*parts: object) -> str:
    """A short name for a tuple of JSON-like parts: equal parts, equal name."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def signatures(graph: Graph) -> dict[str, str | None]:
    """For each node what its result depends on: its type, its inputs and all that is upstream; None: uncacheable.

    Node ids do not matter, so equal branches share a result. A link to an absent node cannot be cached. A node
    without `inputs` is a KeyError, on which the real worker dies too.
    """
    known: dict[str, str | None] = {}

    def visit(node_id: str, above: frozenset[str]) -> str | None:
        if node_id in known:
            return known[node_id]
        if node_id not in graph or node_id in above:
            return None
        node = graph[node_id]
        parts: list[object] = [node["class_type"], node.get("is_changed")]
        for name, value in sorted(node["inputs"].items()):
            if is_link(value):
                upstream = visit(value[0], above | {node_id})
                if upstream is None:
                    known[node_id] = None
                    return None
                parts.append((name, upstream, value[1]))
            else:
                parts.append((name, value))
        known[node_id] = digest(parts)
        return known[node_id]

    for node_id in graph:
        visit(node_id, frozenset())
    return known


class RunOrder:
    """The nodes still to run for some outputs, and which of the ready ones goes first.

    The choice follows the real server's, as its recorded frame orders show: an output node at once; else a node that
    feeds an output directly, or through one more node; else the one that has waited longest.
    """

    def __init__(self, graph: Graph, *, is_output: Callable[[str], bool], is_cached: Callable[[str], bool]) -> None:
        self._graph = graph
        self._is_output = is_output
        self._is_cached = is_cached
        self._waiting: dict[str, set[str]] = {}  # node -> nodes it waits for, in order of discovery
        self._feeds: dict[str, list[str]] = {}

    def add(self, outputs: Iterable[str]) -> None:
        """Add outputs and everything uncached upstream of them."""
        for output in outputs:
            stack = [output]
            while stack:
                node_id = stack.pop()
                if node_id in self._waiting:
                    continue
                links = [value[0] for value in self._graph[node_id]["inputs"].values() if is_link(value)]
                needed = [link for link in links if not self._is_cached(link)]
                self._waiting[node_id] = set(needed)
                self._feeds.setdefault(node_id, [])
                for link in dict.fromkeys(needed):
                    self._feeds.setdefault(link, []).append(node_id)
                stack.extend(needed)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def node_ids(self) -> list[str]:
        """What is still to run."""
        return list(self._waiting)

    def pick(self) -> str:
        """The node to run now."""
        ready = [node_id for node_id, needs in self._waiting.items() if not needs]
        for node_id in ready:
            if self._output(node_id):
                return node_id
        for node_id in ready:
            if any(self._output(fed) for fed in self._feeds[node_id]):
                return node_id
        for node_id in ready:
            if any(self._output(last) for fed in self._feeds[node_id] for last in self._feeds[fed]):
                return node_id
        return ready[0]

    def done(self, node_id: str) -> None:
        """Take a node off; what waited for it may be ready now."""
        del self._waiting[node_id]
        for fed in self._feeds.pop(node_id):
            self._waiting[fed].discard(node_id)

    def _output(self, node_id: str) -> bool:
        return self._is_output(self._graph[node_id]["class_type"])
