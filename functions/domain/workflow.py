"""A workflow: a ComfyUI graph with named places for a job's values.

A workflow document is JSON: the graph in ComfyUI's API format, the parameters and where each is bound, the
place where LoRAs are spliced in, and the nodes that save pictures. `Workflow.parse` refuses a document whose
bindings or links lead nowhere; `bind` turns a workflow and a job's values into the graph that is posted to
ComfyUI. Binding only ever replaces leaves: ComfyUI reads a list as a link, so no list is accepted as a value.
"""

import copy
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from functions.domain.errors import Rejected
from functions.domain.graph import Graph, Lora, LoraSlot, invalid, parse_graph, parse_link, splice
from functions.domain.parameter import Parameter, Value, all_text

ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
# Released versions only, and no number longer than Postgres sorts by.
VERSION = re.compile(r"(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})")
# SaveImage expands %tokens% and fails on paths that leave its folder: only plain relative names pass.
PREFIX = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)+[A-Za-z0-9_-]+")
KEYS = {
    *("id", "version", "title", "description", "graph", "parameters"),
    *("lora_slot", "outputs", "vram_gib", "complexity"),
}


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """A parsed workflow document; `graph` is never changed, `bind` works on a copy.

    vram_gib: least video memory it runs in. complexity: the factor its price is multiplied by.
    """

    id: str
    version: str
    title: str
    graph: Graph
    parameters: Mapping[str, Parameter]
    outputs: tuple[str, ...]
    lora_slot: LoraSlot | None = None
    vram_gib: float | None = None
    complexity: float = 1.0

    @property
    def node_types(self) -> frozenset[str]:
        """The node types a ComfyUI must have to run it, LoRA loaders among them where it takes LoRAs."""
        loader = {"LoraLoader" if self.lora_slot.clip else "LoraLoaderModelOnly"} if self.lora_slot else set()
        return frozenset(node["class_type"] for node in self.graph.values()) | loader

    @classmethod
    def parse(cls, document: bytes | str) -> Self:
        """The workflow in a document.

        Raises Rejected `workflow_invalid` that names the place: not JSON, unknown keys, nodes without
        class_type or inputs, links or bindings to what is not there, a cycle, two parameters on one input.
        """
        raw = _object(document)
        if unknown := sorted(raw.keys() - KEYS):
            raise invalid(f"the document has an unknown key {unknown[0]!r}", field=unknown[0])
        if not isinstance(raw.get("id"), str) or not ID.fullmatch(raw["id"]):
            raise invalid("id must be lower-case letters, digits, - and _, at most 63", field="id")
        if not isinstance(raw.get("version"), str) or not VERSION.fullmatch(raw["version"]):
            raise invalid("version must be a semantic version such as 1.0.0", field="version")
        graph = parse_graph(raw.get("graph"))
        return cls(
            id=raw["id"],
            version=raw["version"],
            title=str(raw.get("title") or raw["id"]),
            graph=graph,
            parameters=_parameters(raw.get("parameters", {}), graph),
            outputs=_outputs(raw.get("outputs"), graph),
            lora_slot=_lora_slot(raw.get("lora_slot"), graph),
            vram_gib=_positive(raw, "vram_gib"),
            complexity=_positive(raw, "complexity") or 1.0,
        )


def digest(document: bytes) -> str:
    """Hex SHA-256 of a workflow document's bytes as they lie in storage: what a job is stamped with."""
    return hashlib.sha256(document).hexdigest()


def resolve(workflow: Workflow, values: Mapping[str, object]) -> dict[str, Value]:
    """Every parameter's final value: the given ones checked, defaults for the others.

    A parameter with neither is left out, and the graph's own value stays. Raises Rejected naming the field:
    `parameter_unknown`, `parameter_missing`, `parameter_invalid`, `parameter_out_of_range`.
    """
    for name in values:
        if name not in workflow.parameters:
            known = ", ".join(sorted(workflow.parameters))
            raise Rejected(
                "parameter_unknown",
                f"workflow {workflow.id} has no such parameter; it has {known}",
                field=name,
            )
    resolved: dict[str, Value] = {}
    for name, parameter in workflow.parameters.items():
        if name in values:
            resolved[name] = parameter.check(values[name])
        elif parameter.default is not None:
            resolved[name] = parameter.check(parameter.default)
        elif parameter.required:
            raise Rejected("parameter_missing", f"{name} must be given", field=name)
    return resolved


def bind(
    workflow: Workflow, values: Mapping[str, object], loras: Sequence[Lora] = (), *, filename_prefix: str
) -> Graph:
    """The graph to post to ComfyUI: a copy with values, LoRAs and the job's own output folder in place.

    filename_prefix: `folder/name`. The folder must be the job's own: ComfyUI answers a graph it has just run
    with the old file, and a new prefix is what makes it save again. Raises Rejected as `resolve` does, and
    `loras_unsupported`, `loras_too_many`, `lora_invalid`, `filename_prefix_invalid`.
    """
    if not PREFIX.fullmatch(filename_prefix):
        raise Rejected(
            "filename_prefix_invalid",
            "must be folder/name of letters, digits, - and _, with a folder of the job's own",
            field="filename_prefix",
        )
    graph = copy.deepcopy(workflow.graph)
    for name, value in resolve(workflow, values).items():
        for node, input_name in workflow.parameters[name].bind:
            graph[node]["inputs"][input_name] = value
    for node in workflow.outputs:
        graph[node]["inputs"]["filename_prefix"] = filename_prefix
    if loras:
        if workflow.lora_slot is None:
            raise Rejected("loras_unsupported", f"workflow {workflow.id} takes no LoRAs", field="loras")
        splice(graph, workflow.lora_slot, loras)
    return graph


def _object(document: bytes | str) -> dict[str, Any]:
    try:
        raw = json.loads(document, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as broken:
        raise invalid(f"the document is not JSON: {broken}") from broken
    if not isinstance(raw, dict):
        raise invalid("the document must be a JSON object")
    return raw


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _parameters(raw: object, graph: Graph) -> dict[str, Parameter]:
    if not isinstance(raw, dict):
        raise invalid("parameters must be an object", field="parameters")
    parameters = {name: Parameter.parse(name, declared) for name, declared in raw.items()}
    owners: dict[tuple[str, str], str] = {}
    for name, parameter in parameters.items():
        where = f"parameters.{name}"
        for node_id, input_name in parameter.bind:
            if node_id not in graph:
                raise invalid(f"{name!r} is bound to node {node_id}, which is not in the graph", field=where)
            if input_name not in graph[node_id]["inputs"]:
                raise invalid(f"{name!r} is bound to {node_id}.{input_name}, which is no input", field=where)
            if isinstance(graph[node_id]["inputs"][input_name], list | dict):
                raise invalid(f"{name!r} is bound to {node_id}.{input_name}, which is a link", field=where)
            other = owners.setdefault((node_id, input_name), name)
            if other != name:
                raise invalid(f"{name!r} and {other!r} set the same input", field=where)
    return parameters


def _outputs(raw: object, graph: Graph) -> tuple[str, ...]:
    if not isinstance(raw, list) or not raw or not all_text(raw):
        raise invalid("outputs must name the nodes that save pictures", field="outputs")
    for node_id in raw:
        if node_id not in graph:
            raise invalid(f"output node {node_id} is not in the graph", field="outputs")
        if not isinstance(graph[node_id]["inputs"].get("filename_prefix"), str):
            raise invalid(f"output node {node_id} has no filename_prefix; use SaveImage", field="outputs")
    return tuple(raw)


def _lora_slot(raw: object, graph: Graph) -> LoraSlot | None:
    if raw is None:
        return None
    if not isinstance(raw, dict) or "model" not in raw or raw.keys() - {"model", "clip"}:
        raise invalid("lora_slot must be {model: link, clip: link}", field="lora_slot")
    model = parse_link(raw["model"], graph, "lora_slot.model")
    clip = parse_link(raw["clip"], graph, "lora_slot.clip") if "clip" in raw else None
    if model == clip:
        raise invalid("lora_slot's model and clip are the same output", field="lora_slot")
    return LoraSlot(model=model, clip=clip)


def _positive(raw: Mapping[str, Any], key: str) -> float | None:
    number = raw.get(key)
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, int | float) or number <= 0:
        raise invalid(f"{key} must be a number above 0", field=key)
    return number
