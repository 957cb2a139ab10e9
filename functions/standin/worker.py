"""The one worker: takes a prompt, has it run, keeps its history. One prompt at a time."""

import asyncio

from functions.standin.behaviour import FaultKind
from functions.standin.execution import Running
from functions.standin.nodes import WorkerGone
from functions.standin.prompts import Item, Prompts
from functions.standin.workshop import Workshop


class Worker:
    """The loop between the queue and the history."""

    def __init__(self, prompts: Prompts, workshop: Workshop) -> None:
        self._prompts, self._workshop = prompts, workshop

    async def work(self) -> None:
        """Run prompts for ever. What ends this is not mended: HTTP goes on answering, as on the real server."""
        while True:
            await self._prompts.stirred()
            if self._prompts.pending:
                self._die_if_told()
                await self._serve(*self._prompts.take())
            if self._prompts.free_memory:
                self._workshop.forget()
            self._prompts.free_memory = False

    async def _serve(self, taken: int, item: Item) -> None:
        workshop = self._workshop
        workshop.interrupted = False
        extra = dict(item[3])  # extra_data null ends the worker here, as recorded
        client_id = workshop.sockets.client_id = extra.get("client_id")
        outcome, status = await Running(workshop, item, extra).execute()
        workshop.sockets.node = None
        lag = workshop.behaviour.take(FaultKind.HISTORY_LAG)
        await asyncio.sleep(lag.lag_ms / 1000 if lag else 0)
        self._prompts.done(taken, outcome=outcome, status=status)
        if client_id is not None:
            workshop.sockets.send("executing", {"node": None, "prompt_id": item[1]}, client_id)
        if workshop.behaviour.armed(FaultKind.DEAF):
            await asyncio.sleep(0)  # the frames of this prompt leave, unheard, before the fault is counted
            workshop.behaviour.take(FaultKind.DEAF)

    def _die_if_told(self) -> None:
        fault = self._workshop.behaviour.armed(FaultKind.WORKER_DEAD)
        if fault is not None and not fault.strikes_in_node():
            self._workshop.behaviour.spend(fault)
            raise WorkerGone
