"""One prompt on its way through the worker: its nodes in order, its frames, its outcome."""

import asyncio
import hashlib
import time
import traceback
from dataclasses import dataclass
from typing import Any

from functions.standin import nodes, paint
from functions.standin.behaviour import FaultKind
from functions.standin.catalogue import STEPPING, Catalogue
from functions.standin.files import Folders
from functions.standin.frames import JPEG, PNG, Preview
from functions.standin.graph import Graph, RunOrder, is_link, signatures
from functions.standin.nodes import NodeFailed
from functions.standin.prompts import Item
from functions.standin.values import Pictures
from functions.standin.workshop import Interrupted, Workshop


@dataclass(kw_only=True)
class Call:
    """One node's turn, as `functions.standin.nodes.Call` describes it."""

    running: "Running"
    node_id: str
    folders: Folders
    catalogue: Catalogue
    class_type: str
    inputs: dict[str, Any]
    graph: dict[str, Any]
    extra_pnginfo: dict[str, Any] | None
    step_ms: int
    load_ms: int
    embed_metadata: bool
    writes_files: bool
    ui: dict[str, Any] | None = None

    async def step(
        self, value: int, total: int, *, preview: Pictures | None = None, final: bytes | None = None
    ) -> None:
        """Report progress of this node; Interrupted when one was asked for."""
        await self.running.step(self.node_id, value, total, preview=preview, final=final)


class Running:
    """One prompt on its way through the workshop."""

    def __init__(self, workshop: Workshop, item: Item, extra: dict[str, Any]) -> None:
        self.workshop = workshop
        self.prompt_id, self.outputs, self.extra = item[1], item[4], extra
        self.graph: Graph = item[2]
        self.client_id = extra.get("client_id")
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.progress: dict[str, dict[str, Any]] = {}
        self.executed: list[str] = []
        self.keys: dict[str, str | None] = {}
        self.stepping = False

    async def execute(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Run it; outcome (outputs, meta) and status, as history keeps them."""
        workshop = self.workshop
        self._say("execution_start", {"prompt_id": self.prompt_id})
        self._mark_changed_files(self.graph)
        self.keys = signatures(self.graph)
        workshop.retain({key for key in self.keys.values() if key})
        cached = [node_id for node_id in self.graph if self._cached(node_id)]
        self._say("execution_cached", {"nodes": cached, "prompt_id": self.prompt_id})
        order = RunOrder(self.graph, is_output=workshop.catalogue.is_output, is_cached=self._cached)
        order.add(self.outputs)
        self.stepping = any(
            self.graph[node_id]["class_type"] in STEPPING and not self._cached(node_id) for node_id in order.node_ids()
        )
        success = True
        while order and success:
            node_id = order.pick()
            success = await self._node(node_id)
            order.done(node_id)
        if success:
            self._say("execution_success", {"prompt_id": self.prompt_id})
        shown = {node_id: workshop.shown[key] for node_id, key in self.keys.items() if key and key in workshop.shown}
        meta = {
            node_id: {
                "node_id": node_id,
                "display_node": node_id,
                "parent_node": None,
                "real_node_id": node_id,
            }
            for node_id in shown
        }
        status = {
            "status_str": "success" if success else "error",
            "completed": success,
            "messages": self.messages,
        }
        return {"outputs": shown, "meta": meta}, status

    async def step(
        self, node_id: str, value: int, total: int, *, preview: Pictures | None, final: bytes | None
    ) -> None:
        """Tell of progress in one node; an interrupt is heard before, a fault strikes after."""
        self._hear_interrupt()
        self.progress[node_id] |= {"value": value, "max": total}
        self._tell_progress()
        picture = await self._preview(node_id, value / total, preview, final)
        told = {"value": value, "max": total, "prompt_id": self.prompt_id, "node": node_id}
        if picture is not None and picture.metadata is not None:
            self._send("preview", picture)
            self._send("progress", told)
        else:
            self._send("progress", told)
            if picture is not None:
                self._send("preview", picture)
        fault = self.workshop.behaviour.in_node()
        if fault is not None and value >= min(fault.after_steps or 0, total):
            await self.workshop.strike()

    async def _node(self, node_id: str) -> bool:
        """Run one node; False when the prompt ends here."""
        key = self.keys[node_id] or node_id
        workshop = self.workshop
        if self._cached(node_id):
            shown = workshop.shown.get(key)
            self._tell("executed", {"node": node_id, "display_node": node_id, "output": shown})
            self.progress[node_id] = self._entry(node_id, value=1, maximum=1)
            self._finish(node_id)
            return True
        self.progress[node_id] = self._entry(node_id, value=0.0, maximum=1.0)
        self._tell_progress()
        workshop.sockets.node = node_id if self.client_id is not None else None
        self._tell("executing", {"node": node_id, "display_node": node_id})
        call = self._call(node_id)
        try:
            self._hear_interrupt()
            if call.class_type in STEPPING or not self.stepping:
                fault = workshop.behaviour.in_node()
                if fault is not None and (not self.stepping or not fault.after_steps):
                    await self.workshop.strike()
            workshop.results[key] = await nodes.run(call)
        except Interrupted:
            self._say("execution_interrupted", self._failure(node_id), to_all=True)
            return False
        except Exception as error:  # noqa: BLE001 - a node may raise anything; the prompt fails, the server goes on
            self._say("execution_error", self._failure(node_id) | self._described(error, call))
            return False
        if call.ui is not None:
            workshop.shown[key] = call.ui
            self._tell("executed", {"node": node_id, "display_node": node_id, "output": call.ui})
        self._finish(node_id)
        self.executed.append(node_id)
        return True

    def _call(self, node_id: str) -> Call:
        workshop = self.workshop
        class_type = self.graph[node_id]["class_type"]
        saves = workshop.catalogue.is_output(class_type)
        return Call(
            running=self,
            node_id=node_id,
            folders=workshop.folders,
            catalogue=workshop.catalogue,
            class_type=class_type,
            inputs=self._inputs(node_id),
            graph=self.graph,
            extra_pnginfo=self.extra.get("extra_pnginfo"),
            step_ms=workshop.behaviour.step_ms,
            load_ms=workshop.behaviour.load_ms,
            embed_metadata=workshop.embed_metadata,
            writes_files=not (saves and workshop.behaviour.take(FaultKind.NO_FILE)),
        )

    def _inputs(self, node_id: str) -> dict[str, Any]:
        declared = self.workshop.catalogue.info(self.graph[node_id]["class_type"])["input"]
        known = declared.get("required", {}) | declared.get("optional", {})
        inputs = {}
        for name, value in self.graph[node_id]["inputs"].items():
            if is_link(value):
                key = self.keys[value[0]] or value[0]
                inputs[name] = self.workshop.results[key][int(value[1])]
            elif name in known:
                inputs[name] = value
        return inputs

    async def _preview(
        self, node_id: str, part: float, preview: Pictures | None, final: bytes | None
    ) -> Preview | None:
        if final is not None:
            return Preview(image=final, image_format=PNG)
        if preview is None or not self.workshop.previews:
            return None
        image = await asyncio.to_thread(paint.preview, preview, part)
        if not self.workshop.sockets.wants_metadata(self.client_id):
            return Preview(image=image, image_format=JPEG)
        metadata = {
            "node_id": node_id,
            "prompt_id": self.prompt_id,
            "display_node_id": node_id,
            "parent_node_id": None,
            "real_node_id": node_id,
            "image_type": "image/jpeg",
        }
        return Preview(image=image, image_format=JPEG, metadata=metadata)

    def _mark_changed_files(self, graph: Graph) -> None:
        """LoadImage nodes carry their file's hash, so another file under the same name is another input."""
        for node in graph.values():
            if str(node.get("class_type", "")).startswith("LoadImage"):
                name = str(node.get("inputs", {}).get("image", ""))
                path = self.workshop.folders.annotated(name, self.workshop.folders.input)
                if path.is_file():
                    node["is_changed"] = [hashlib.sha256(path.read_bytes()).hexdigest()]

    def _cached(self, node_id: str) -> bool:
        key = self.keys.get(node_id)
        return key is not None and key in self.workshop.results

    def _hear_interrupt(self) -> None:
        if self.workshop.interrupted:
            self.workshop.interrupted = False
            raise Interrupted

    def _failure(self, node_id: str) -> dict[str, Any]:
        return {
            "prompt_id": self.prompt_id,
            "node_id": node_id,
            "node_type": self.graph[node_id]["class_type"],
            "executed": list(self.executed),
        }

    def _described(self, error: Exception, call: Call) -> dict[str, Any]:
        kind = error.exception_type if isinstance(error, NodeFailed) else type(error).__name__
        given = dict(call.inputs)
        for name in call.catalogue.info(call.class_type)["input"].get("hidden", {}):
            given[name] = self.graph if name == "prompt" else call.extra_pnginfo
        return {
            "exception_message": f"{error}\n",
            "exception_type": kind,
            "traceback": traceback.format_tb(error.__traceback__),
            "current_inputs": {
                name: [value if isinstance(value, str | int | float | None) else str(value)]
                for name, value in given.items()
            },
            "current_outputs": list(self.graph),
        }

    def _entry(self, node_id: str, *, value: float, maximum: float) -> dict[str, Any]:
        return {
            "value": value,
            "max": maximum,
            "state": "running",
            "node_id": node_id,
            "prompt_id": self.prompt_id,
            "display_node_id": node_id,
            "parent_node_id": None,
            "real_node_id": node_id,
        }

    def _finish(self, node_id: str) -> None:
        entry = self.progress[node_id]
        entry |= {"value": entry["max"], "state": "finished"}
        self._tell_progress()

    def _tell_progress(self) -> None:
        states = {node_id: dict(entry) for node_id, entry in self.progress.items()}
        self._send("progress_state", {"prompt_id": self.prompt_id, "nodes": states})

    def _send(self, event: str, data: Any) -> None:
        """To the client of this prompt; to all when it named none."""
        self.workshop.sockets.send(event, data, self.client_id)

    def _tell(self, event: str, data: dict[str, Any]) -> None:
        """To the client of this prompt; to nobody when it named none."""
        if self.client_id is not None:
            self._send(event, data | {"prompt_id": self.prompt_id})

    def _say(self, event: str, data: dict[str, Any], *, to_all: bool = False) -> None:
        """Tell it, and keep it for the history."""
        data = data | {"timestamp": int(time.time() * 1000)}
        self.messages.append((event, data))
        if self.client_id is not None or to_all:
            self._send(event, data)
