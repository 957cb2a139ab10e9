"""Jobs as they are shown: what Postgres knows, and, where Redis answers, how far they are this instant."""

import logging
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from pydantic import BaseModel, Field

from functions.adapters import queue
from functions.adapters.artifacts import Kept
from functions.api.artifacts import ArtifactView
from functions.api.credits import TransactionView
from functions.api.remedy import remedy
from functions.api.waits import LessView, WaitView
from functions.domain.errors import Unavailable
from functions.domain.job import RUNNING, Job, State

log = logging.getLogger(__name__)


class LoraView(BaseModel):
    """A LoRA and its strength."""

    id: str
    strength: float


class ProgressView(BaseModel):
    """How far a render is: preparing, sampling or saving; percent 0 to 100 over the whole graph."""

    phase: str
    node_title: str | None = None
    step: int | None = None
    steps: int | None = None
    percent: int = 0


class MoveView(BaseModel):
    """One move of the job: from where, to where, when, on which attempt, and why."""

    from_state: State | None
    to_state: State
    attempt: int
    cause: str | None
    worker: str | None
    at: datetime


class JobSubmittedView(BaseModel):
    """A job as it began."""

    id: str
    state: State = State.SUBMITTED
    credits: int
    seed: str = Field(description="decimal digits, exactly as the sampler gets it")
    pool: str
    workflow_id: str
    workflow_version: str
    submitted_at: datetime
    estimated_wait: WaitView = Field(description="until a GPU takes the job, as it was estimated when it was asked for")
    degraded: dict[str, LessView] = Field(
        default={},
        description="what it gets less of than was asked, because its pool was saturated and it allowed that",
    )

    @classmethod
    def of(cls, job: Job) -> "JobSubmittedView":
        return cls(**_values(job, cls) | {"state": State.SUBMITTED})


class JobView(JobSubmittedView):
    """A job as it stands. `ahead` counts the jobs before it in its pool's queue; `progress` is there while it renders.
    `cause`, `detail` and `remedy` say why it failed or tries again, and what helps."""

    user_id: str
    attempt: int
    prompt: str
    negative_prompt: str
    model: str
    loras: list[LoraView]
    parameters: dict[str, Any]
    images: int
    boost: int
    tags: list[str]
    collection_id: str | None
    cause: str | None
    detail: str | None
    remedy: str | None = None
    worker: str | None
    run_at: datetime | None
    changed_at: datetime
    ahead: int | None = None
    progress: ProgressView | None = None
    artifacts: list[ArtifactView] = []


class FileView(BaseModel):
    """A model file and its digest; without one, ComfyUI lists it itself and nobody has read it."""

    kind: str
    name: str
    sha256: str | None


class Made(BaseModel):
    """What the pictures were made with. The same request under the same workflow has the same graph_sha256."""

    comfyui_version: str
    graph_sha256: str
    files: list[FileView]


class JobStory(JobView):
    """A job with every move it made, every credit it moved, and what its pictures were made with."""

    made: Made | None
    history: list[MoveView]
    transactions: list[TransactionView]


class JobPage(BaseModel):
    """Jobs, newest first; without `next_cursor` it is the last page."""

    jobs: list[JobView]
    next_cursor: str | None = None


def views(jobs: Sequence[Job], pictures: Sequence[Kept]) -> list[JobView]:
    """These jobs, with their pictures (in job order, as they come from the adapter) and what Redis says of them."""
    ahead, progress = _live(jobs)
    kept = {job_id: list(those) for job_id, those in groupby(pictures, key=lambda picture: picture.job_id)}
    return [
        JobView(
            **_values(job, JobView)
            | {
                "remedy": remedy(job.cause) if job.state is State.FAILED else None,
                "ahead": ahead.get(job.id),
                "progress": _progress(job, progress.get(job.id)),
                "artifacts": [ArtifactView.of(picture) for picture in kept.get(job.id, ())],
            }
        )
        for job in jobs
    ]


def _values(job: Job, view: type[BaseModel]) -> dict[str, Any]:
    """The job's own values for a view's fields; a seed is text, because JSON's readers round what is above 2^53."""
    known = {name: value for name, value in vars(job).items() if name in view.model_fields}
    return known | {"seed": str(job.seed), "estimated_wait": WaitView.at_submission(job)}


def _live(jobs: Sequence[Job]) -> tuple[dict[str, int], dict[str, dict[str, Any]]]:
    waiting = {job.id: job.pool for job in jobs if job.state is State.QUEUED}
    running = [job.id for job in jobs if job.state in RUNNING]
    if not waiting and not running:
        return {}, {}
    try:
        return queue.glance(waiting, running)
    except Unavailable as error:
        log.warning("jobs are shown without their progress: %s", error)
        return {}, {}


def _progress(job: Job, told: dict[str, Any] | None) -> ProgressView | None:
    """What was told of this attempt; an earlier one's last word says nothing of it."""
    return ProgressView.model_validate(told) if told and told.get("attempt") == job.attempt else None
