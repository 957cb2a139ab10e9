"""Whether another try can help, and how long to wait before it."""

from collections.abc import Mapping
from dataclasses import dataclass

from functions.domain.errors import Failure

#: Why an attempt can end without pictures: every code there is, and its class. A code that is not here was a refusal
#: (`Rejected`) on the way to the render, and those are permanent.
CODES: Mapping[str, Failure] = {
    "graph_refused": Failure.PERMANENT,
    "model_not_listed": Failure.PERMANENT,
    "model_too_large": Failure.PERMANENT,
    "node_missing": Failure.PERMANENT,
    "object_changed": Failure.PERMANENT,
    "object_missing": Failure.PERMANENT,
    "output_too_large": Failure.PERMANENT,
    "workflow_changed": Failure.PERMANENT,
    "comfyui_error": Failure.TRANSIENT,
    "comfyui_gone": Failure.TRANSIENT,
    "comfyui_stuck": Failure.TRANSIENT,
    "interrupted": Failure.TRANSIENT,
    "neighbour_unavailable": Failure.TRANSIENT,
    "no_output": Failure.TRANSIENT,
    "node_error": Failure.TRANSIENT,
    "output_unreadable": Failure.TRANSIENT,
    "prompt_lost": Failure.TRANSIENT,
    "runner_error": Failure.TRANSIENT,
    "timeout": Failure.TRANSIENT,
    "upload_damaged": Failure.TRANSIENT,
    "out_of_memory": Failure.OUT_OF_MEMORY,
    "not_ours": Failure.WORKER_LOST,
    "worker_lost": Failure.WORKER_LOST,
}
#: The cause of a move back into the queue that is nobody's failure: the runner was told to stop, by a drain or a
#: preemption. The job goes back to the place it had, at once and at no attempt.
DRAINED = "given_back"


def kind(code: str) -> Failure:
    """The class of the failure with this code."""
    return CODES.get(code, Failure.PERMANENT)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """retries: tries after the first. Waits grow from base_s by factor up to cap_s, then full jitter is taken."""

    retries: int = 3
    base_s: float = 10
    factor: float = 2
    cap_s: float = 300

    def allows(self, kind: Failure, *, attempt: int) -> bool:
        """Whether the attempt after this one is worth a GPU. Out of memory is: in a bigger pool, where there is one."""
        return kind is not Failure.PERMANENT and attempt <= self.retries

    def backoff_s(self, *, attempt: int, chance: float) -> float:
        """Seconds to wait after this attempt failed; `chance` in [0, 1) is the full jitter, so that jobs which
        failed together do not come back together."""
        return min(self.cap_s, self.base_s * self.factor ** (attempt - 1)) * chance
