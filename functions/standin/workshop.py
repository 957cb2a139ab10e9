"""What every prompt finds in place, and how a fault strikes the one that runs."""

import asyncio
import os
import signal
from dataclasses import dataclass, field
from typing import Any

from functions.standin import nodes
from functions.standin.behaviour import Behaviour, FaultKind
from functions.standin.catalogue import Catalogue
from functions.standin.files import Folders
from functions.standin.frames import Sockets
from functions.standin.nodes import NodeFailed, Outputs, WorkerGone


class Interrupted(Exception):
    """POST /interrupt was heard."""


@dataclass(kw_only=True)
class Workshop:
    """What every prompt finds in place: folders, nodes, sockets, switches, and the results kept from before.

    keep: how long results stay, `latest` (the latest prompt's only, the default), `none`, or `lru` (the last
    `keep_results`). results: by signature; shown: what output nodes showed, by signature.
    """

    sockets: Sockets
    folders: Folders
    catalogue: Catalogue
    behaviour: Behaviour
    keep: str = "latest"
    keep_results: int = 0
    previews: bool = False
    embed_metadata: bool = True
    interrupted: bool = False
    results: dict[str, Outputs] = field(default_factory=dict)
    shown: dict[str, dict[str, Any]] = field(default_factory=dict)

    def retain(self, wanted: set[str]) -> None:
        """Drop the results that are not kept, at the start of a prompt that could use `wanted`."""
        if self.keep == "lru":
            surplus = [key for key in self.results if key not in wanted]
            for key in surplus[: max(0, len(self.results) - self.keep_results)]:
                self.results.pop(key)
        else:
            kept = wanted if self.keep == "latest" else set()
            self.results = {key: value for key, value in self.results.items() if key in kept}
        self.shown = {key: value for key, value in self.shown.items() if key in self.results}

    def forget(self) -> None:
        """Drop every result, as POST /free with free_memory asks."""
        self.results.clear()
        self.shown.clear()

    async def strike(self) -> None:
        """Let the oldest armed in-node fault strike the prompt that runs."""
        fault = self.behaviour.in_node()
        if fault is None:
            return
        self.behaviour.spend(fault)
        match fault.fault:
            case FaultKind.NODE_ERROR:
                raise NodeFailed("RuntimeError", fault.message)
            case FaultKind.OUT_OF_MEMORY:
                raise nodes.out_of_memory()
            case FaultKind.OUT_OF_MEMORY_CPU:
                raise nodes.out_of_memory_cpu(68_719_476_736)
            case FaultKind.DIE:
                await asyncio.sleep(0.02)  # the frames told so far leave first
                os.kill(os.getpid(), signal.SIGKILL)
            case FaultKind.WORKER_DEAD:
                raise WorkerGone
            case FaultKind.STALL:
                await self.behaviour.released.wait()
            case FaultKind.DROP_SOCKETS:
                await asyncio.sleep(0.02)
                self.sockets.cut()
