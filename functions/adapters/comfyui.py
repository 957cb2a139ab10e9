"""The runner's ComfyUI: posts a graph, follows it to its end, fetches the pictures, stops it when told to.

The socket is a hint, `/history` is the judge. Everything that can end otherwise than with pictures is a
RenderFailed whose kind says whether another try can help, or GivenBack when the runner was asked to stop.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from functions.adapters.comfyui_history import Image, moment, pictures
from functions.adapters.comfyui_http import Http, NoAnswer
from functions.adapters.comfyui_nodes import Nodes
from functions.adapters.comfyui_progress import Progress, Tracker
from functions.adapters.comfyui_prompt import TICK_S, Prompt
from functions.adapters.comfyui_socket import Frames
from functions.adapters.comfyui_watch import LOOK_TIMEOUT_S, queue, stuck
from functions.domain.errors import Failure, GivenBack, RenderFailed
from functions.domain.graph import Graph

__all__ = ["ComfyUI", "Image", "Progress", "Rendered", "System"]

log = logging.getLogger(__name__)

IMAGE_LIMIT_BYTES = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class System:
    """The ComfyUI that answers, and its first device."""

    version: str
    device: str
    vram_total_bytes: int
    vram_free_bytes: int


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """The pictures of one prompt, and when they were made, by ComfyUI's clock.

    timings: `wait_ms` until ComfyUI began, `load_ms` from there to the first sampler step, `sampling_ms` from
    there to the last step, `total_ms` from post to verdict; what was not heard of is absent.
    """

    images: tuple[Image, ...]
    started_at: datetime
    finished_at: datetime
    timings: Mapping[str, int]


class ComfyUI:
    """One ComfyUI server; close it, or use it as a context manager.

    timeout_s: for one HTTP answer. patience_s: how long it may refuse connections, or leave prompts waiting
    with nothing running, before it counts as gone or stuck.
    """

    def __init__(self, url: str, *, timeout_s: float = 10, patience_s: float = 5) -> None:
        self.url = url.rstrip("/")
        self._http = Http(self.url, timeout_s=timeout_s)
        self._patience_s = patience_s
        self._nodes = Nodes(lambda kind: self._http.get(f"/object_info/{kind}").get(kind))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def ready(self, *, wait_s: float, stop: Callable[[], bool]) -> System:
        """The system, once it answers: ComfyUI refuses connections until all its nodes are loaded.

        Raises RenderFailed `comfyui_gone` after `wait_s` seconds, GivenBack when told to stop.
        """
        until = time.monotonic() + wait_s
        while True:
            try:
                return self.system()
            except NoAnswer:
                if time.monotonic() >= until:
                    raise
            if stop():
                raise GivenBack("asked to stop while ComfyUI was starting")
            time.sleep(TICK_S)

    def fresh(self) -> bool:
        """Whether it has painted nothing since it started: its history lives and dies with it. False when it does not
        say."""
        try:
            return not self._http.get("/history?max_items=1", timeout_s=LOOK_TIMEOUT_S)
        except RenderFailed as silent:
            log.info("whether ComfyUI is fresh is not known: %s", silent)
            return False

    def memory(self) -> tuple[int, int]:
        """Video memory of the first device, total and free, in bytes; 0 and 0 when ComfyUI does not say."""
        try:
            system = self.system(timeout_s=LOOK_TIMEOUT_S)
        except RenderFailed as silent:
            log.info("video memory is not known: %s", silent)
            return 0, 0
        return system.vram_total_bytes, system.vram_free_bytes

    def system(self, *, timeout_s: float | None = None) -> System:
        """Version and video memory, as ComfyUI reports them: free is what its allocator could still hand out, and on a
        machine without a GPU all of it is main memory (get_free_memory in comfy/model_management.py)."""
        stats = self._http.get("/system_stats", timeout_s=timeout_s)
        device = (stats.get("devices") or [{}])[0]
        return System(
            version=str(stats["system"]["comfyui_version"]),
            device=str(device.get("name", "none")),
            vram_total_bytes=int(device.get("vram_total", 0)),
            vram_free_bytes=int(device.get("vram_free", 0)),
        )

    def models(self, folder: str) -> list[str]:
        """The files of a model folder (`checkpoints`, `loras` ...); new files are listed at once."""
        return list(self._http.get(f"/models/{folder}"))

    def has(self, node_type: str) -> bool:
        """Whether a node type is installed."""
        return bool(self._http.get(f"/object_info/{node_type}"))

    def check(self, graph: Graph) -> None:
        """Pass a graph that this ComfyUI lists every node and file of, if its worker is alive.

        Raises RenderFailed, permanent: `node_missing`, `model_not_listed`, `graph_refused`; transient:
        `comfyui_stuck` when prompts wait and none runs, which only a restart mends.
        """
        self._nodes.check(graph)
        until = time.monotonic() + self._patience_s
        while queue(self._http).stuck:
            if time.monotonic() >= until:
                raise stuck()
            time.sleep(TICK_S)

    def render(
        self,
        graph: Graph,
        *,
        prompt_id: str,
        deadline_s: float,
        on_progress: Callable[[Progress], None],
        stop: Callable[[], bool],
    ) -> Rendered:
        """The pictures of a graph.

        prompt_id: never used before. deadline_s: seconds from now. Raises GivenBack when `stop` turned true,
        else RenderFailed: `graph_refused`, `out_of_memory`, `node_error`, `interrupted`, `no_output`,
        `timeout`, `prompt_lost`, `comfyui_gone`, `comfyui_stuck`, `comfyui_error`. However this ends, ComfyUI
        is told to stop working on it, and what it holds of a picture nobody waits for is freed.
        """
        posted_at, posted = datetime.now(UTC), time.monotonic()
        tracker = Tracker(graph, on_progress)
        prompt = Prompt(self._http, prompt_id, patience_s=self._patience_s, stop=stop)
        # The socket comes first: frames can precede the answer to the post, and missed ones never come again.
        with Frames(self.url, timeout_s=self._patience_s) as frames:
            try:
                prompt.post(graph, client_id=frames.client_id)
                entry = prompt.follow(frames, tracker, until=posted + deadline_s)
            except BaseException as left:  # KeyboardInterrupt as well: nobody would wait for the pictures
                prompt.withdraw(wait=isinstance(left, GivenBack))
                if isinstance(left, GivenBack) or (isinstance(left, RenderFailed) and left.code == "timeout"):
                    self._free_for_the_next()
                raise
        try:
            images = pictures(entry, graph)
        except RenderFailed as failed:
            if failed.kind is Failure.OUT_OF_MEMORY:
                self._free_for_the_next()
            raise
        tracker.finish()
        return Rendered(
            images=images,
            started_at=moment(entry, "execution_start") or posted_at,
            finished_at=moment(entry, "execution_success") or datetime.now(UTC),
            timings=tracker.timings(posted=posted),
        )

    def fetch(self, image: Image, *, limit_bytes: int = IMAGE_LIMIT_BYTES) -> bytes:
        """A picture's bytes.

        Raises RenderFailed: `no_output` when the file is not there or empty, `output_too_large` above the
        limit, `comfyui_gone`.
        """
        where = {"filename": image.filename, "subfolder": image.subfolder, "type": image.type}
        content = self._http.download("/view", params=where, limit_bytes=limit_bytes)
        if not content:
            detail = f"ComfyUI names {image.filename}, and there is no such file, or nothing in it"
            raise RenderFailed(Failure.TRANSIENT, "no_output", detail)
        return content

    def upload(self, name: str, data: bytes) -> str:
        """Put a picture where LoadImage reads; gives the name that ComfyUI has it under. The same bytes again get the
        same name. Raises RenderFailed `comfyui_gone` or `comfyui_error`."""
        return self._http.upload("/upload/image", name, data)

    def interrupt(self, prompt_id: str) -> None:
        """Stop this prompt if it is the one that runs; it ends at its next step or node."""
        self._prompt(prompt_id).interrupt()

    def delete(self, prompt_id: str) -> None:
        """Take this prompt out of the queue if it still waits there."""
        self._prompt(prompt_id).delete()

    def free(self) -> None:
        """Give back the memory of models and cached results, as soon as nothing runs."""
        self._http.send("/free", {"unload_models": True, "free_memory": True}, timeout_s=LOOK_TIMEOUT_S)

    def _prompt(self, prompt_id: str) -> Prompt:
        return Prompt(self._http, prompt_id, patience_s=self._patience_s, stop=lambda: False)

    def _free_for_the_next(self) -> None:
        try:
            self.free()
        except NoAnswer as silent:
            log.warning("could not free ComfyUI's memory: %s", silent)
