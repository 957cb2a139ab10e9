"""The server: ComfyUI's routes, each also under /api, and /standin/behaviour for the switches.

Built on aiohttp as the real one is, so that odd methods, broken bodies and oversized uploads are answered alike.
"""

import asyncio
import json
import logging
import urllib.parse
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from functions.standin.about import About
from functions.standin.behaviour import Behaviour, Change, FaultKind
from functions.standin.catalogue import Catalogue
from functions.standin.files import Folders
from functions.standin.frames import Sockets
from functions.standin.media import Media
from functions.standin.prompts import Prompts
from functions.standin.validation import Verdict, validate
from functions.standin.worker import Worker
from functions.standin.workshop import Workshop

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """One stand-in: its queue, its worker, its sockets and its routes."""

    def __init__(
        self,
        *,
        folders: Folders,
        behaviour: Behaviour,
        keep: str = "latest",
        keep_results: int = 0,
        previews: bool = False,
        embed_metadata: bool = True,
        max_upload_bytes: int = 100 << 20,
    ) -> None:
        self._folders, self._behaviour = folders, behaviour
        self._max_upload_bytes = max_upload_bytes
        self._features = {"supports_preview_metadata": True, "max_upload_size": max_upload_bytes}
        self._number = 0
        self._catalogue = Catalogue(folders)
        self._prompts = Prompts()
        self._sockets = Sockets(
            features=self._features,
            remaining=self._prompts.remaining,
            deaf=lambda: behaviour.armed(FaultKind.DEAF) is not None,
        )
        self._prompts.changed = self._sockets.status
        self._workshop = Workshop(
            sockets=self._sockets,
            folders=folders,
            catalogue=self._catalogue,
            behaviour=behaviour,
            keep=keep,
            keep_results=keep_results,
            previews=previews,
            embed_metadata=embed_metadata,
        )

    async def serve(self, *, host: str, port: int) -> None:
        """Listen and work until the process is ended; raises when the sending of frames breaks down."""
        app = web.Application(client_max_size=self._max_upload_bytes, middlewares=[_same_origin])
        about = About(self._folders, self._catalogue, self._features)
        routes = [*self._routes(), *Media(self._folders).routes(), *about.routes()]
        app.add_routes(routes)
        app.add_routes([web.route(route.method, f"/api{route.path}", route.handler) for route in routes])
        app.add_routes([*about.internal_routes(), *self._bare_routes()])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        log.info("listening on http://%s:%s", host, port)
        work = asyncio.create_task(Worker(self._prompts, self._workshop).work())
        work.add_done_callback(_worker_ended)
        await self._sockets.publish()

    def _routes(self) -> list[web.RouteDef]:
        return [
            web.get("/ws", self._sockets.connect),
            web.get("/prompt", self.count),
            web.post("/prompt", self.submit),
            web.get("/queue", self.queue),
            web.post("/queue", self.change_queue),
            web.get("/history", self.histories),
            web.post("/history", self.change_history),
            web.get("/history/{prompt_id}", self.history),
            web.post("/interrupt", self.interrupt),
            web.post("/free", self.free),
            web.get("/visionsuit/gpu", self.gpu),
        ]

    def _bare_routes(self) -> list[web.RouteDef]:
        """Routes without an /api twin; the last one is the real server's static folder, which has nothing here."""
        return [
            web.get("/standin/behaviour", self.behaviour),
            web.post("/standin/behaviour", self.change_behaviour),
            web.get("/", _welcome),
            web.get("/{tail:.*}", _absent),
        ]

    async def submit(self, request: web.Request) -> web.Response:
        """POST /prompt: queue a graph, or say in 400 what is wrong with it."""
        body = await request.json()
        if "number" in body:
            number = float(body["number"])
        else:
            number = -self._number if body.get("front") else self._number
            self._number += 1
        if "prompt" not in body:
            text = "No prompt provided"
            error = {"type": "no_prompt", "message": text, "details": text, "extra_info": {}}
            return web.json_response({"error": error, "node_errors": {}}, status=400)
        prompt_id = str(body.get("prompt_id", uuid.uuid4()))
        graph = body["prompt"]
        verdict = validate(graph, self._catalogue, self._folders, targets=body.get("partial_execution_targets"))
        extra = body.get("extra_data", {})
        if "client_id" in body:
            extra["client_id"] = body["client_id"]
        if verdict.error is not None:
            answer = {"error": verdict.error, "node_errors": verdict.node_errors}
            return web.json_response(answer, status=400)
        node_errors = verdict.node_errors
        if self._behaviour.take(FaultKind.NODE_ERRORS):
            node_errors = node_errors | _made_up(graph, verdict)
        self._prompts.put((number, prompt_id, graph, extra, verdict.outputs))
        if self._behaviour.take(FaultKind.LOST_ANSWER) and request.transport is not None:
            request.transport.abort()
        return web.json_response({"prompt_id": prompt_id, "number": number, "node_errors": node_errors})

    async def count(self, _: web.Request) -> web.Response:
        """GET /prompt: how many prompts wait or run."""
        return web.json_response({"exec_info": {"queue_remaining": self._prompts.remaining()}})

    async def queue(self, _: web.Request) -> web.Response:
        """GET /queue: running, and waiting in heap order, not run order."""
        running = list(self._prompts.running.values())
        return web.json_response({"queue_running": running, "queue_pending": self._prompts.pending})

    async def change_queue(self, request: web.Request) -> web.Response:
        """POST /queue: forget waiting prompts, all or some; always 200, empty."""
        body = await request.json()
        if body.get("clear"):
            self._prompts.clear()
        for prompt_id in body.get("delete", []):
            self._prompts.delete(prompt_id)
        return web.Response()

    async def histories(self, request: web.Request) -> web.Response:
        """GET /history: what is done, oldest first; a bad number is a 500."""
        max_items = request.query.get("max_items")
        listed = self._prompts.listed(
            max_items=None if max_items is None else int(max_items),
            offset=int(request.query.get("offset", -1)),
        )
        return web.json_response(listed)

    async def history(self, request: web.Request) -> web.Response:
        """GET /history/{id}: one entry, or {} while unknown, waiting or running."""
        prompt_id = request.match_info["prompt_id"]
        entry = self._prompts.history.get(prompt_id)
        return web.json_response({} if entry is None else {prompt_id: entry})

    async def change_history(self, request: web.Request) -> web.Response:
        """POST /history: forget what is done, all or some."""
        body = await request.json()
        if body.get("clear"):
            self._prompts.history.clear()
        for prompt_id in body.get("delete", []):
            self._prompts.history.pop(prompt_id, None)
        return web.Response()

    async def interrupt(self, request: web.Request) -> web.Response:
        """POST /interrupt: stop what runs, or the named prompt if it runs; the answer does not say whether it hit."""
        try:
            prompt_id = (await request.json()).get("prompt_id")
        except json.JSONDecodeError:
            prompt_id = None
        if not prompt_id or any(item[1] == prompt_id for item in self._prompts.running.values()):
            self._workshop.interrupted = True
        return web.Response()

    async def free(self, request: web.Request) -> web.Response:
        """POST /free: 200 at once, done after the running prompt; only free_memory drops kept results."""
        body = await request.json()
        if body.get("free_memory", False):
            self._prompts.free_memory = True
            self._prompts.wake()
        return web.Response()

    async def gpu(self, _: web.Request) -> web.Response:
        """GET /visionsuit/gpu: what the package of our image answers; 404, as without it, unless told to have a GPU."""
        gpu = self._behaviour.gpu
        return web.Response(status=404) if gpu is None else web.json_response(gpu.model_dump(mode="json"))

    async def behaviour(self, _: web.Request) -> web.Response:
        """GET /standin/behaviour: the switches as they stand."""
        return web.json_response(self._behaviour.shown())

    async def change_behaviour(self, request: web.Request) -> web.Response:
        """POST /standin/behaviour: change the switches; 400 says which field is wrong."""
        try:
            change = Change.model_validate_json(await request.read())
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_context=False, include_input=False)
            return web.json_response({"errors": wrong}, status=400)
        self._behaviour.apply(change)
        return web.json_response(self._behaviour.shown())


@web.middleware
async def _same_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
    """On a loopback host an Origin that does not match Host is refused with an empty 403."""
    host, origin = request.headers.get("Host"), request.headers.get("Origin")
    if host and origin:
        ours, theirs = urllib.parse.urlsplit(f"//{host.lower()}"), urllib.parse.urlsplit(origin.lower())
        loopback = ours.hostname == "localhost" or (ours.hostname or "").startswith("127.")
        both_ports = ours.port is not None and theirs.port is not None
        same = ours.hostname == theirs.hostname and (not both_ports or ours.port == theirs.port)
        if loopback and theirs.hostname and not same:
            return web.Response(status=403)
    return await handler(request)


def _made_up(graph: dict[str, Any], verdict: Verdict) -> dict[str, Any]:
    """Node errors as of an output that failed validation while another passed."""
    output = verdict.outputs[0]
    error = {
        "type": "value_smaller_than_min",
        "message": "Value 0 smaller than min of 1",
        "details": "width",
        "extra_info": {
            "input_name": "width",
            "input_config": ["INT", {"default": 512, "min": 1, "max": 16384, "step": 1}],
            "received_value": 0,
        },
    }
    entry = {"errors": [error], "dependent_outputs": [output], "class_type": graph[output]["class_type"]}
    return {output: entry}


def _worker_ended(task: asyncio.Task[None]) -> None:
    log.error("the worker has ended (%s); prompts pile up until a restart", type(task.exception()).__name__)


async def _welcome(_: web.Request) -> web.Response:
    page = "<!doctype html><title>ComfyUI stand-in</title><p>A stand-in for ComfyUI. It paints landscapes."
    return web.Response(body=page.encode(), content_type="text/html", headers={"Cache-Control": "no-cache"})


async def _absent(_: web.Request) -> web.Response:
    return web.Response(status=404, content_type="application/octet-stream")
