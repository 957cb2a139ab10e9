"""Whether a ComfyUI can run a graph: its node types and what their lists offer, from `/object_info/{node}`.

ComfyUI would refuse such a graph too; asked beforehand, it is refused in words, with the missing file named.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from functions.domain.errors import Failure, RenderFailed
from functions.domain.graph import Graph

MODEL_FILES = (".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".gguf", ".pkl")

NodeInfo = Mapping[str, Any]  # one entry of /object_info


class Nodes:
    """What ComfyUI has said about its node types, kept for as long as it does not stand in a graph's way.

    info: the `/object_info` entry of one node type, None for a type that is not installed.
    """

    def __init__(self, info: Callable[[str], NodeInfo | None]) -> None:
        self._info = info
        self._known: dict[str, NodeInfo] = {}

    def check(self, graph: Graph) -> None:
        """Pass a graph whose node types are all installed and whose choices are all listed.

        Raises RenderFailed, permanent: `node_missing`, `model_not_listed`, `graph_refused`, with node and
        input.
        """
        for node_id, node in graph.items():
            self._node(node_id, node, fresh=node["class_type"] not in self._known)

    def _node(self, node_id: str, node: Mapping[str, Any], *, fresh: bool) -> None:
        kind = node["class_type"]
        if fresh:
            info = self._info(kind)
            if info is None:
                detail = f"node {node_id}: ComfyUI has no node type {kind}; install it in the runner's image"
                raise RenderFailed(Failure.PERMANENT, "node_missing", detail[:300])
            self._known[kind] = info
        for name, offered in _choices(self._known[kind]):
            value = node["inputs"].get(name)
            if value is None or isinstance(value, list) or value in offered:
                continue
            if not fresh:  # a model file may have come since: ComfyUI lists new files at once
                return self._node(node_id, node, fresh=True)
            raise _not_listed(node_id, kind, name, str(value))
        return None


def _choices(info: NodeInfo) -> Iterator[tuple[str, list[Any]]]:
    """Inputs that take one of a list: `[[a, b], {...}]`, or `["COMBO", {"options": [a, b]}]`."""
    for group in ("required", "optional"):
        for name, spec in (info.get("input") or {}).get(group, {}).items():
            if isinstance(spec[0], list):
                yield name, spec[0]
            elif spec[0] == "COMBO" and isinstance((spec[1] if len(spec) > 1 else {}).get("options"), list):
                yield name, spec[1]["options"]


def _not_listed(node_id: str, kind: str, name: str, value: str) -> RenderFailed:
    where = f"node {node_id} ({kind}): {name} {value[:120]!r} is not listed"
    if value.lower().endswith(MODEL_FILES):
        detail = f"{where}; put the file into ComfyUI's models folder"
        return RenderFailed(Failure.PERMANENT, "model_not_listed", detail)
    return RenderFailed(Failure.PERMANENT, "graph_refused", f"{where}; choose one that /object_info offers")
