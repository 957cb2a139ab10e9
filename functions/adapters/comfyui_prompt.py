"""One prompt in ComfyUI: posted once, followed to its history entry, withdrawn when no longer wanted."""

import logging
import time
from collections.abc import Callable
from typing import Any

from functions.adapters.comfyui_history import refusal
from functions.adapters.comfyui_http import Http, NoAnswer
from functions.adapters.comfyui_progress import Tracker
from functions.adapters.comfyui_socket import Frames
from functions.adapters.comfyui_watch import LOOK_TIMEOUT_S, Watch, history, queue
from functions.domain.errors import Failure, GivenBack, RenderFailed
from functions.domain.graph import Graph

log = logging.getLogger(__name__)

TICK_S = 0.25  # how often a wait looks up to see whether it should stop
QUIET_S = 1.0  # after so long without a frame, history and queue are asked
LAG_S = 0.01  # history may stay empty for a moment after the last frame; the pause doubles from here
WITHDRAW_S = 10.0  # a node without progress, such as a loader, ends before an interrupt is heeded


class Prompt:
    """One prompt, under an id that was never used before: ComfyUI would overwrite that one's history.

    stop: asked at least four times a second; once true, every wait ends with GivenBack.
    """

    def __init__(self, http: Http, prompt_id: str, *, patience_s: float, stop: Callable[[], bool]) -> None:
        self._http = http
        self._id = prompt_id
        self._patience_s = patience_s
        self._stop = stop

    def post(self, graph: Graph, *, client_id: str) -> None:
        """Put the prompt into ComfyUI's queue, once.

        A lost answer or a 500 may hide a prompt that was taken, and a second post would run it twice: so
        queue and history are looked at before every further try. Raises RenderFailed `graph_refused`, or
        NoAnswer once patience is spent.
        """
        # client_id must be text and extra_data an object: anything else ends ComfyUI's worker or the process.
        body = {"prompt": graph, "prompt_id": self._id, "client_id": client_id, "extra_data": {}}
        until: float | None = None
        pause_s = TICK_S
        while True:
            try:
                answer = self._http.call("POST", "/prompt", json=body)
                if answer.status_code == 413:
                    raise RenderFailed(Failure.PERMANENT, "graph_refused", "the graph is too large")
                if answer.status_code == 400:
                    raise refusal(self._http.content(answer), graph)
                if (taken := self._http.content(self._http.accepted(answer))).get("node_errors"):
                    raise refusal(taken, graph)  # its sound part would run, and look like success
                return
            except NoAnswer as silent:
                failed = silent
            until = until or time.monotonic() + self._patience_s
            if self._stop():
                raise GivenBack("asked to stop before ComfyUI had taken the prompt")
            time.sleep(pause_s)
            pause_s *= 2
            if self._taken():
                return
            if time.monotonic() >= until:
                raise failed

    def follow(self, frames: Frames, tracker: Tracker, *, until: float) -> dict[str, Any]:
        """The prompt's history entry, once there is one; `until` is the deadline in monotonic seconds.

        Raises RenderFailed `timeout`, and as `Watch.look` does.
        """
        watch = Watch(self._http, self._id, patience_s=self._patience_s)
        polling = frames.lost
        pause_s = LAG_S if polling else QUIET_S
        look_at = time.monotonic() + pause_s
        while True:
            now = time.monotonic()
            if self._stop():
                raise GivenBack("asked to stop during the render")
            if now >= until:
                raise RenderFailed(Failure.TRANSIENT, "timeout", "the render was not done by its deadline")
            if now >= look_at:
                if entry := watch.look():
                    return entry
                look_at = time.monotonic() + pause_s
                pause_s = min(2 * pause_s, QUIET_S)
                continue
            frame = frames.next(self._id, wait_s=min(TICK_S, look_at - now, until - now))
            if frame is not None:
                tracker.hear(frame)
                ended = frame["type"] in {"execution_success", "execution_error", "execution_interrupted"}
                last = frame["type"] == "executing" and frame["data"].get("node") is None
                pause_s = LAG_S if ended or last else QUIET_S
                look_at = time.monotonic() + (0 if last else pause_s)
            else:
                tracker.flush()
            if frames.lost and not polling:
                polling, pause_s, look_at = True, LAG_S, 0.0

    def withdraw(self, *, wait: bool) -> None:
        """Take the prompt out of ComfyUI; with `wait`, look for a few seconds whether it has gone.

        Best effort by nature: what cannot be reached is logged.
        """
        try:
            self.delete()  # first: what starts running in between is then hit by the interrupt
            self.interrupt()
            until = time.monotonic() + (WITHDRAW_S if wait else 0)
            while time.monotonic() < until:
                if self._id not in queue(self._http):
                    return
                time.sleep(0.05)
            if wait:
                log.warning("ComfyUI still runs %s, %g s after the interrupt", self._id, WITHDRAW_S)
        except NoAnswer as silent:
            log.warning("could not take %s out of ComfyUI: %s", self._id, silent)

    def interrupt(self) -> None:
        self._http.send("/interrupt", {"prompt_id": self._id}, timeout_s=LOOK_TIMEOUT_S)

    def delete(self) -> None:
        self._http.send("/queue", {"delete": [self._id]}, timeout_s=LOOK_TIMEOUT_S)

    def _taken(self) -> bool:
        try:
            return self._id in queue(self._http) or history(self._http, self._id) is not None
        except NoAnswer:
            return False  # the next post finds out whether it is gone for good
