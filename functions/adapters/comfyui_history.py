"""What became of a prompt: ComfyUI's history entry, or its refusal, read into pictures or a failure.

Error frames carry prompt texts, tensor dumps and paths of the server; what leaves this module does not.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from functions.domain.errors import Failure, RenderFailed
from functions.domain.graph import Graph

DETAIL_LIMIT = 300  # characters of a failure's text

# torch's CUDA class, and what its CPU allocator writes under RuntimeError.
OUT_OF_MEMORY = re.compile(r"OutOfMemory|out of memory|can't allocate memory|not enough memory", re.IGNORECASE)
FOLDERS = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?(?:[/\\][^/\\\s'\"]+)*[/\\](?=[^/\\\s'\"])")


@dataclass(frozen=True, kw_only=True)
class Image:
    """One file ComfyUI has written, as `/view` names it."""

    filename: str
    subfolder: str
    type: str


def pictures(entry: Mapping[str, Any], graph: Graph) -> tuple[Image, ...]:
    """The new pictures of a finished prompt, in the order of the graph's nodes.

    Raises RenderFailed: `out_of_memory`, `interrupted`, `node_error`, or `no_output` when nothing was saved
    or what is named was saved by an earlier prompt. An error counts even if another branch had saved
    something before.
    """
    status = entry.get("status") or {}
    messages = {kind: data for kind, data in status.get("messages") or ()}
    if status.get("status_str") != "success" or "execution_error" in messages:
        raise _failure(messages, graph)
    outputs = entry.get("outputs") or {}
    cached = set((messages.get("execution_cached") or {}).get("nodes") or ())
    place = {node_id: index for index, node_id in enumerate(graph)}
    images = []
    for node_id in sorted(outputs, key=lambda node_id: place.get(node_id, len(place))):
        for image in outputs[node_id].get("images") or ():
            if image["type"] == "output":  # `temp` is a preview
                if node_id in cached:
                    detail = f"node {node_id} saved nothing new; give each job a folder of its own"
                    raise RenderFailed(Failure.TRANSIENT, "no_output", detail)
                images.append(Image(**{key: image[key] for key in ("filename", "subfolder", "type")}))
    if not images:
        raise RenderFailed(Failure.TRANSIENT, "no_output", "the prompt succeeded, but no node saved a picture")
    return tuple(images)


def moment(entry: Mapping[str, Any], message: str) -> datetime | None:
    """When this message was written, by ComfyUI's clock."""
    for kind, data in (entry.get("status") or {}).get("messages") or ():
        if kind == message and isinstance(data.get("timestamp"), int):
            return datetime.fromtimestamp(data["timestamp"] / 1000, tz=UTC)
    return None


def refusal(answer: Mapping[str, Any], graph: Graph) -> RenderFailed:
    """Why ComfyUI refused a graph: per node the kind of error and the input, never the values."""
    complaints = []
    for node_id, node in (answer.get("node_errors") or {}).items():
        for error in node.get("errors") or ():
            name = (error.get("extra_info") or {}).get("input_name")
            complaints.append(f"node {node_id} ({node.get('class_type')}): {error.get('type')} {name or ''}".strip())
    if not complaints:
        error = answer.get("error") or {}
        complaints = [f"{error.get('type', 'refused')}: {clean(str(error.get('message', '')), graph)}"]
    return RenderFailed(Failure.PERMANENT, "graph_refused", "; ".join(complaints)[:DETAIL_LIMIT])


def clean(message: str, graph: Graph) -> str:
    """The first line of a message, without folders of the server and without texts of the job."""
    texts = {
        value
        for node in graph.values()
        for name, value in node["inputs"].items()
        if isinstance(value, str) and ("text" in name or "prompt" in name or len(value.split()) > 1)
    }
    for text in sorted(texts - {""}, key=len, reverse=True):
        message = message.replace(text, "...")
    line = message.strip().split("\n", 1)[0]
    return FOLDERS.sub("", line)[:DETAIL_LIMIT]


def _failure(messages: Mapping[str, Any], graph: Graph) -> RenderFailed:
    if (error := messages.get("execution_error")) is None:
        if "execution_interrupted" in messages:
            return RenderFailed(Failure.TRANSIENT, "interrupted", "somebody interrupted the prompt in ComfyUI")
        return RenderFailed(Failure.TRANSIENT, "node_error", "ComfyUI reports an error and does not say which")
    kind, message = str(error.get("exception_type")), clean(str(error.get("exception_message")), graph)
    detail = f"{error.get('node_type')} (node {error.get('node_id')}): {kind}: {message}"
    if OUT_OF_MEMORY.search(kind) or OUT_OF_MEMORY.search(message):
        return RenderFailed(Failure.OUT_OF_MEMORY, "out_of_memory", detail[:DETAIL_LIMIT])
    return RenderFailed(Failure.TRANSIENT, "node_error", detail[:DETAIL_LIMIT])
