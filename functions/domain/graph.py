"""A graph: ComfyUI's API format, `{node id: {class_type, inputs}}`, where an input is a value or a link.

A link is `[node id, output slot]`. Here graphs are checked before they are trusted, and LoRAs are spliced in.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from functions.domain.errors import Rejected

MAX_LORAS = 12
MAX_LORA_STRENGTH = 100.0  # LoraLoader's bounds in ComfyUI's /object_info are -100 .. 100

Graph = dict[str, dict[str, Any]]
Link = tuple[str, int]  # (node id, output slot)


@dataclass(frozen=True, kw_only=True)
class Lora:
    """One LoRA: the file's name as ComfyUI lists it, and how strongly it bears on model and text encoder."""

    name: str
    strength: float = 1.0


@dataclass(frozen=True, kw_only=True)
class LoraSlot:
    """The outputs after which LoRAs are spliced in; without `clip` they bear on the model only."""

    model: Link
    clip: Link | None = None


def invalid(detail: str, *, field: str | None = None) -> Rejected:
    """A workflow document that cannot be used; `field` is the path inside it."""
    return Rejected("workflow_invalid", detail, field=field)


def parse_graph(raw: object) -> Graph:
    """The graph itself, once every node has its parts, every link leads somewhere and none runs in a circle.

    Raises Rejected `workflow_invalid` with the node and input as field.
    """
    if not isinstance(raw, dict) or not raw:
        raise invalid("graph must hold at least one node", field="graph")
    for node_id, node in raw.items():
        where = f"graph.{node_id}"
        if not isinstance(node, dict) or not isinstance(node.get("class_type"), str):
            raise invalid(f"node {node_id} has no class_type; save it in the API format", field=where)
        # A node without inputs kills ComfyUI's worker thread, which then takes prompts and never runs one.
        if not isinstance(node.get("inputs"), dict):
            raise invalid(f"node {node_id} has no inputs; write {{}} if it takes none", field=where)
    sources = {
        node_id: {parse_link(value, raw, f"graph.{node_id}.{name}")[0] for name, value in _links(node)}
        for node_id, node in raw.items()
    }
    try:
        TopologicalSorter(sources).prepare()
    except CycleError as cycle:
        raise invalid(f"the graph runs in a circle: {' -> '.join(cycle.args[1])}", field="graph") from cycle
    return raw


def parse_link(value: object, graph: Mapping[str, Any], where: str) -> Link:
    """The link a JSON value stands for; Rejected `workflow_invalid` when it is malformed or leads nowhere."""
    if not (isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)):
        raise invalid("a link must be [node id, output slot]", field=where)
    node_id, slot = value
    if type(slot) is not int or slot < 0:
        raise invalid("a link's output slot must be a whole number from 0", field=where)
    if node_id not in graph:
        raise invalid(f"links to node {node_id}, which is not in the graph", field=where)
    return node_id, slot


def splice(graph: Graph, slot: LoraSlot, loras: Sequence[Lora]) -> None:
    """Chain the LoRAs after the slot, in place, and hand what the slot fed over to the last of them.

    Raises Rejected `loras_too_many` or `lora_invalid`.
    """
    if len(loras) > MAX_LORAS:
        raise Rejected("loras_too_many", f"at most {MAX_LORAS} LoRAs", field="loras")
    consumers = [(node["inputs"], name, tuple(value)) for node in graph.values() for name, value in _links(node)]
    ends = {slot.model: slot.model} | ({slot.clip: slot.clip} if slot.clip else {})
    for index, lora in enumerate(loras):
        if not lora.name or not math.isfinite(lora.strength) or abs(lora.strength) > MAX_LORA_STRENGTH:
            bounds = f"between -{MAX_LORA_STRENGTH:g} and {MAX_LORA_STRENGTH:g}"
            raise Rejected("lora_invalid", f"needs a name and a strength {bounds}", field=f"loras.{index}")
        node_id = _unused_id(graph, f"lora_{index + 1}")
        inputs = {
            "model": list(ends[slot.model]),
            "lora_name": lora.name,
            "strength_model": float(lora.strength),
        }
        ends[slot.model] = (node_id, 0)
        if slot.clip:
            inputs |= {"clip": list(ends[slot.clip]), "strength_clip": float(lora.strength)}
            ends[slot.clip] = (node_id, 1)
        graph[node_id] = {
            "class_type": "LoraLoader" if slot.clip else "LoraLoaderModelOnly",
            "inputs": inputs,
            "_meta": {"title": f"LoRA {index + 1}"},
        }
    for inputs, name, source in consumers:
        if source in ends:
            inputs[name] = list(ends[source])


def _links(node: Mapping[str, Any]) -> list[tuple[str, list[Any]]]:
    """A node's (input name, link) pairs; ComfyUI reads every list as a link."""
    return [(name, value) for name, value in node["inputs"].items() if isinstance(value, list)]


def _unused_id(graph: Graph, node_id: str) -> str:
    while node_id in graph:
        node_id += "_"
    return node_id
