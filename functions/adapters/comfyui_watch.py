"""Asking after one prompt over HTTP, and telling from what is not there what has become of ComfyUI."""

import time
from dataclasses import dataclass
from typing import Any

from functions.adapters.comfyui_http import Http, NoAnswer
from functions.domain.errors import Failure, RenderFailed

LOOK_TIMEOUT_S = 2.0  # a late answer to a look must not outlast a deadline by much
BUSY_S = 60.0  # a server that takes connections but is late may be reading a large checkpoint
LOST_LOOKS = 2


@dataclass(frozen=True, kw_only=True)
class Queue:
    """The prompt ids in ComfyUI's own queue."""

    running: frozenset[str]
    pending: frozenset[str]

    @property
    def stuck(self) -> bool:
        """Whether prompts wait although nothing runs: for longer than a moment, the worker thread is dead."""
        return bool(self.pending) and not self.running

    def __contains__(self, prompt_id: str) -> bool:
        return prompt_id in self.running or prompt_id in self.pending


def queue(http: Http) -> Queue:
    """What runs and what waits in ComfyUI itself; an item is `[number, prompt_id, graph, ...]`."""
    listed = http.get("/queue", timeout_s=LOOK_TIMEOUT_S)
    running, pending = (frozenset(str(item[1]) for item in listed[key]) for key in ("queue_running", "queue_pending"))
    return Queue(running=running, pending=pending)


def history(http: Http, prompt_id: str) -> dict[str, Any] | None:
    """A finished prompt's history entry; None while it is unknown, waits or runs."""
    answer: dict[str, dict[str, Any]] = http.get(f"/history/{prompt_id}", timeout_s=LOOK_TIMEOUT_S)
    return answer.get(prompt_id)


def stuck() -> RenderFailed:
    """What to say of a queue that stays stuck."""
    detail = "prompts wait in ComfyUI and none runs: its worker is dead, restart it"
    return RenderFailed(Failure.TRANSIENT, "comfyui_stuck", detail)


class Watch:
    """One prompt, looked at from time to time.

    patience_s: how long ComfyUI may refuse connections, or leave prompts waiting with nothing running.
    """

    def __init__(self, http: Http, prompt_id: str, *, patience_s: float) -> None:
        self._http = http
        self._prompt_id = prompt_id
        self._patience_s = patience_s
        self._missed = 0
        self._silent_since: float | None = None
        self._stuck_since: float | None = None

    def look(self) -> dict[str, Any] | None:
        """The history entry once the prompt has ended, None while it has not.

        Raises RenderFailed, transient: `prompt_lost` when neither queue nor history knows it (it was deleted,
        or ComfyUI has restarted), `comfyui_stuck`, and NoAnswer once patience is spent.
        """
        try:
            entry = history(self._http, self._prompt_id) or self._unfinished()
        except NoAnswer as silent:
            self._silent_since = self._silent_since or time.monotonic()
            allowed_s = max(BUSY_S, self._patience_s) if silent.late else self._patience_s
            if time.monotonic() - self._silent_since > allowed_s:
                raise
            return None
        self._silent_since = None
        return entry

    def _unfinished(self) -> dict[str, Any] | None:
        waiting = queue(self._http)
        if self._prompt_id not in waiting:
            if entry := history(self._http, self._prompt_id):  # it ended between the two looks
                return entry
            self._missed += 1
            if self._missed >= LOST_LOOKS:
                detail = "ComfyUI no longer knows the prompt: it was deleted there, or ComfyUI has restarted"
                raise RenderFailed(Failure.TRANSIENT, "prompt_lost", detail)
            return None
        self._missed = 0
        if not waiting.stuck:
            self._stuck_since = None
            return None
        self._stuck_since = self._stuck_since or time.monotonic()
        if time.monotonic() - self._stuck_since > self._patience_s:
            raise stuck()
        return None
