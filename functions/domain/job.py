"""A job: what was asked, what it costs, where it stands and where it may go next."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from functions.domain.errors import IllegalMove


class State(StrEnum):
    """Where a job stands; every move between two of these leaves one row of history."""

    SUBMITTED = "submitted"  # stored and priced; nothing paid yet
    DEBITED = "debited"  # paid; not in the queue yet
    QUEUED = "queued"  # waiting for a GPU, or for the moment of its next try
    DISPATCHING = "dispatching"  # claimed: a runner fetches what the render needs
    IN_PROGRESS = "in_progress"  # ComfyUI has it
    AWAITING_REVIEW = "awaiting_review"  # pictures are stored; a curator decides
    COMPLETED = "completed"  # every picture is decided
    FAILED = "failed"  # no picture; what was paid is refunded
    CANCELLED = "cancelled"  # called off


#: Every legal move. The same table guards the rows themselves (`generator_job_may_move` in migrations/).
MOVES: Mapping[State, frozenset[State]] = {
    State.SUBMITTED: frozenset({State.DEBITED, State.FAILED, State.CANCELLED}),
    State.DEBITED: frozenset({State.QUEUED, State.FAILED, State.CANCELLED}),
    State.QUEUED: frozenset({State.DISPATCHING, State.FAILED, State.CANCELLED}),
    State.DISPATCHING: frozenset({State.IN_PROGRESS, State.QUEUED, State.FAILED, State.CANCELLED}),
    State.IN_PROGRESS: frozenset({State.AWAITING_REVIEW, State.QUEUED, State.FAILED, State.CANCELLED}),
    State.AWAITING_REVIEW: frozenset({State.COMPLETED, State.FAILED, State.CANCELLED}),
    State.COMPLETED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}
FINISHED = frozenset(state for state, onward in MOVES.items() if not onward)
RUNNING = frozenset({State.DISPATCHING, State.IN_PROGRESS})
LIVE = frozenset({State.QUEUED}) | RUNNING


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job as Postgres keeps it.

    attempt: 1 for the first try; a retry is attempt + 1, a job given back on a drain keeps its number.
    worker: the runner that holds this attempt; with `attempt` it tells a late report from a current one.
    due_ms: its place in the queue, unix ms; lower runs first (`domain/place.py`).
    start_ms, finish_ms, cost_ms: where that comes from, once it has been dispatched.
    run_at: not to be claimed before this moment (a retry's backoff); None: at once.
    wait_*_ms: the wait as it was estimated when the job was asked for (`domain/estimate.py`); None: nobody could say.
    degraded: what it got less of than was asked, {"steps": {"asked": 28, "given": 14}}.
    seed: 0 .. 2**64-1, exactly as the sampler gets it.
    made: what its pictures were made with: ComfyUI's version, the graph's digest, the model files and theirs.
    payer: the account of the team that pays; None: its user's own. quote_id: the quote that named its price.
    token_id: the API token it was asked for with.
    """

    id: str
    user_id: str
    role: str
    pool: str
    state: State
    attempt: int = 1
    worker: str | None = None
    cause: str | None = None
    detail: str | None = None
    prompt: str
    negative_prompt: str
    workflow_id: str
    workflow_version: str
    workflow_sha256: str
    model: str
    loras: tuple[Mapping[str, Any], ...] = ()
    seed: int
    parameters: Mapping[str, Any]
    images: int
    credits: int
    boost: int = 0
    price_version: str = "1"
    quote_id: str | None = None
    payer: str | None = None
    token_id: str | None = None
    tags: tuple[str, ...] = ()
    collection_id: str | None = None
    review_required: bool = True
    due_ms: int
    start_ms: int | None = None
    finish_ms: int | None = None
    cost_ms: int | None = None
    run_at: datetime | None = None
    wait_p50_ms: int | None = None
    wait_p90_ms: int | None = None
    wait_raw_ms: int | None = None
    degraded: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    submitted_at: datetime
    changed_at: datetime
    made: Mapping[str, Any] | None = None

    def to(self, state: State, *, cause: str | None = None, detail: str | None = None, **changes: Any) -> Self:
        """This job after the move, with the reason for it; IllegalMove when the state machine knows no such move."""
        if state not in MOVES[self.state]:
            raise IllegalMove(f"job {self.id}: {self.state} -> {state}")
        return replace(self, state=state, cause=cause, detail=detail, **changes)

    def held_by(self, worker: str, attempt: int) -> bool:
        """Whether this runner's word still counts: the job is running, on this attempt, in these hands."""
        return self.state in RUNNING and (self.worker, self.attempt) == (worker, attempt)

    def told(self, *, was: State) -> dict[str, Any]:
        """What every event about a move says (`JobMoved` in `domain/event.py`)."""
        return {
            "job_id": self.id,
            "attempt": self.attempt,
            "user_id": self.user_id,
            "previous": was,
            "state": self.state,
            "at": self.changed_at,
            "cause": self.cause,
            "worker": self.worker if self.state in RUNNING else None,
        }
