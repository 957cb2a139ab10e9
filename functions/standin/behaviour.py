"""How the stand-in should behave, and misbehave: the switches of `POST /standin/behaviour` and of `--fault`.

A fault is armed for a number of times and used up as it strikes. Faults that strike a running prompt do so in its
first node that reports progress, after `after_steps` steps (0: before the first); in a graph without such a node, in
the first node that runs. Each is something the real server was seen to do.
"""

import asyncio
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator


class FaultKind(StrEnum):
    """What goes wrong; MEANINGS says how it shows."""

    NODE_ERROR = "node_error"
    OUT_OF_MEMORY = "out_of_memory"
    OUT_OF_MEMORY_CPU = "out_of_memory_cpu"
    DIE = "die"
    WORKER_DEAD = "worker_dead"
    STALL = "stall"
    DEAF = "deaf"
    DROP_SOCKETS = "drop_sockets"
    NO_FILE = "no_file"
    NODE_ERRORS = "node_errors"
    HISTORY_LAG = "history_lag"
    LOST_ANSWER = "lost_answer"


MEANINGS = {
    FaultKind.NODE_ERROR: "a node raises RuntimeError(`message`); the prompt ends in error, the server goes on",
    FaultKind.OUT_OF_MEMORY: "a node raises torch.OutOfMemoryError with its TIPS, as on a GPU",
    FaultKind.OUT_OF_MEMORY_CPU: "a node raises the RuntimeError of torch's CPU allocator",
    FaultKind.DIE: "the process is gone mid-prompt, as after SIGKILL",
    FaultKind.WORKER_DEAD: "the worker ends; HTTP answers 200 for ever, prompts pile up, nothing runs",
    FaultKind.STALL: "the prompt stays running without a frame, deaf to interrupts, until `clear`",
    FaultKind.DEAF: "no frame reaches any socket until `times` prompts have ended; HTTP works",
    FaultKind.DROP_SOCKETS: "every socket is cut mid-prompt; the prompt runs on",
    FaultKind.NO_FILE: "a save node reports success and names a file that is not there",
    FaultKind.NODE_ERRORS: "POST /prompt answers 200 with node_errors filled; the prompt runs all the same",
    FaultKind.HISTORY_LAG: "history stays empty for `lag_ms` after execution_success",
    FaultKind.LOST_ANSWER: "POST /prompt queues the prompt and cuts the connection without an answer",
}

IN_NODE = {
    FaultKind.NODE_ERROR,
    FaultKind.OUT_OF_MEMORY,
    FaultKind.OUT_OF_MEMORY_CPU,
    FaultKind.DIE,
    FaultKind.STALL,
    FaultKind.DROP_SOCKETS,
}


class Fault(BaseModel):
    """One armed fault. WORKER_DEAD without after_steps ends the worker before it takes a prompt (running is empty);
    with after_steps it ends inside a node (the prompt stays listed as running)."""

    model_config = ConfigDict(extra="forbid")

    fault: FaultKind
    times: int = Field(default=1, ge=1, description="how often it strikes")
    after_steps: int | None = Field(default=None, ge=0, description="steps reported before it strikes; default 0")
    message: str = Field(default="the stand-in was told to fail here", description="text of node_error")
    lag_ms: int = Field(default=500, ge=0, description="history_lag: how long")

    def strikes_in_node(self) -> bool:
        """Whether it strikes while a node runs."""
        return self.fault in IN_NODE or (self.fault is FaultKind.WORKER_DEAD and self.after_steps is not None)


class Gpu(BaseModel):
    """What `GET /visionsuit/gpu` is to answer, as the package of that name in our ComfyUI image does on a GPU."""

    model_config = ConfigDict(extra="forbid")

    driver: str = "580.95.05"
    uuid: str = "GPU-00000000-0000-0000-0000-000000000000"
    name: str = "stand-in"
    utilisation_percent: int | None = Field(default=97, ge=0, le=100)
    memory_total_bytes: int = 24 << 30
    memory_used_bytes: int = 9 << 30
    temperature_c: int | None = 71
    ecc_errors: int | None = Field(default=0, ge=0)
    xid_errors: list[int] | None = Field(default_factory=list)


class Change(BaseModel):
    """The body of `POST /standin/behaviour`: what is given is set, faults are added to those armed.

    A single fault may be written flat: {"fault": "die", "after_steps": 2}.
    """

    model_config = ConfigDict(extra="forbid")

    step_ms: int | None = Field(default=None, ge=0, description="time one sampler step takes")
    load_ms: int | None = Field(default=None, ge=0, description="time a checkpoint takes to load")
    clear: bool = Field(default=False, description="first disarm every fault, release a stalled prompt, have no GPU")
    gpu: Gpu | None = Field(default=None, description="have a GPU that tells this of itself")
    faults: list[Fault] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, body: Any) -> Any:
        if isinstance(body, dict) and "fault" in body:
            own = {key: body[key] for key in cls.model_fields if key in body}
            fault = {key: value for key, value in body.items() if key not in own}
            return own | {"faults": [*own.get("faults", []), fault]}
        return body


class Behaviour:
    """The switches as they stand; the worker, the sockets and the doors look here."""

    def __init__(self, *, step_ms: int, load_ms: int) -> None:
        self.step_ms = step_ms
        self.load_ms = load_ms
        self.faults: list[Fault] = []
        self.gpu: Gpu | None = None
        self.released = asyncio.Event()  # what a stalled prompt waits for

    def apply(self, change: Change) -> None:
        """Set what a change names."""
        if change.clear:
            self.faults.clear()
            self.gpu = None
            self.released.set()
            self.released = asyncio.Event()
        self.step_ms = self.step_ms if change.step_ms is None else change.step_ms
        self.load_ms = self.load_ms if change.load_ms is None else change.load_ms
        self.gpu = change.gpu or self.gpu
        self.faults += [fault.model_copy() for fault in change.faults]

    def armed(self, *kinds: FaultKind) -> Fault | None:
        """The oldest armed fault of these kinds, left as it is."""
        return next((fault for fault in self.faults if fault.fault in kinds), None)

    def spend(self, fault: Fault) -> Fault:
        """Count one strike of a fault; the last one disarms it."""
        fault.times -= 1
        if fault.times <= 0 and fault in self.faults:
            self.faults.remove(fault)
        return fault

    def take(self, kind: FaultKind) -> Fault | None:
        """The oldest armed fault of a kind, one strike spent; None when none is armed."""
        fault = self.armed(kind)
        return None if fault is None else self.spend(fault)

    def in_node(self) -> Fault | None:
        """The oldest armed fault that strikes while a node runs."""
        return next((fault for fault in self.faults if fault.strikes_in_node()), None)

    def shown(self) -> dict[str, Any]:
        """What `GET /standin/behaviour` answers."""
        faults = [fault.model_dump(mode="json") for fault in self.faults]
        gpu = self.gpu and self.gpu.model_dump(mode="json")
        return {"step_ms": self.step_ms, "load_ms": self.load_ms, "faults": faults, "gpu": gpu}
