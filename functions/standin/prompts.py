"""The prompts waiting, running and done: the server's memory, and nothing outlives the process.

Waiting prompts are a heap of plain tuples ordered by number, then id, as in the real server. So two with equal number
and equal id end up comparing their graphs, which raises TypeError where it happens: in the POST, or in the worker.
"""

import asyncio
import copy
import heapq
from collections.abc import Callable
from typing import Any

Item = tuple[float, str, Any, Any, list[str]]  # number, prompt_id, graph, extra_data, outputs to execute
SECRETS = ("auth_token_comfy_org", "api_key_comfy_org")
MAX_HISTORY = 10_000


class Prompts:
    """Queue and history. `changed` is called whenever the number of prompts that are waiting or running moves."""

    def __init__(self) -> None:
        self.changed: Callable[[], None] = lambda: None
        self.pending: list[Item] = []
        self.running: dict[int, Item] = {}
        self.history: dict[str, dict[str, Any]] = {}
        self.free_memory = False
        self._taken = 0
        self._wake = asyncio.Event()

    def remaining(self) -> int:
        """How many prompts wait or run."""
        return len(self.pending) + len(self.running)

    def put(self, item: Item) -> None:
        """Add a prompt to those waiting."""
        heapq.heappush(self.pending, item)
        self.changed()
        self._wake.set()

    def wake(self) -> None:
        """Let an idle worker look at the flags of /free."""
        self._wake.set()

    async def stirred(self) -> None:
        """Return once a prompt waits, or when woken for the flags."""
        if not self.pending:
            self._wake.clear()
            await self._wake.wait()

    def take(self) -> tuple[int, Item]:
        """The next prompt to run, now listed as running; TypeError where two cannot be told apart."""
        item = heapq.heappop(self.pending)
        self._taken += 1
        self.running[self._taken] = copy.deepcopy(item)
        self.changed()
        return self._taken, item

    def done(self, taken: int, *, outcome: dict[str, Any], status: dict[str, Any]) -> None:
        """Move a prompt from running to history; the same id again overwrites its entry."""
        item = self.running.pop(taken)
        if len(self.history) > MAX_HISTORY:
            self.history.pop(next(iter(self.history)))
        for secret in SECRETS:
            item[3].pop(secret, None)
        entry = {"prompt": item, "outputs": outcome["outputs"], "status": status, "meta": outcome["meta"]}
        self.history[item[1]] = copy.deepcopy(entry)
        self.changed()

    def clear(self) -> None:
        """Forget all that wait; what runs is untouched."""
        self.pending.clear()
        self.changed()

    def delete(self, prompt_id: str) -> None:
        """Forget one that waits: no frame, no history."""
        for place, item in enumerate(self.pending):
            if item[1] == prompt_id:
                del self.pending[place]
                heapq.heapify(self.pending)
                self.changed()
                return

    def listed(self, *, max_items: int | None, offset: int) -> dict[str, Any]:
        """History entries, oldest first; max_items alone gives the latest."""
        if offset < 0 and max_items is not None:
            offset = len(self.history) - max_items
        kept = list(self.history)[max(offset, 0) :]
        return {key: self.history[key] for key in (kept if max_items is None else kept[:max_items])}
