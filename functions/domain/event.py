"""Everything this system says and hears: each event's name, its data, and the id that makes a repeat recognisable.

An event states a fact, so its id is computed from the fact (job, step, attempt): a fact told twice carries one id, and
whoever has heard it knows. `type` is `visionsuit.generator.` + name + `.v1`; `subject` is the job's id.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Self

from annotated_types import Len

from functions.domain.errors import Failure
from functions.domain.infotext import File
from functions.domain.request import Achievement, CancelRequest, JobRequest, ReviewDecision

TYPE_PREFIX = "visionsuit.generator."
TYPE_SUFFIX = ".v1"


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who asks, as the platform vouches for: an opaque user id and a role."""

    user_id: str
    role: str
    collections: tuple[str, ...] | None = None  # those the platform says this user may write to; None: it does not say


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """A smaller copy of a picture, WebP, at most `px` wide and high."""

    px: int
    key: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One stored picture, as the runner reports it. Keys are object keys in the outputs bucket: where the runner wrote.
    Of bytes that were stored before, only the first copy is kept, so read a picture through REST, by its id.

    thumbnail_key, thumbnail_sha256: the thumbnail of 384 px; `thumbnails` has it and the other sizes.
    """

    index: int
    key: str
    sha256: str
    size_bytes: int
    content_type: str
    width_px: int
    height_px: int
    thumbnail_key: str
    thumbnail_sha256: str
    thumbnails: tuple[Thumbnail, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Event:
    """A fact about one job. Subclasses add the data; `name` is the part of the type between prefix and version."""

    name: ClassVar[str]
    heard_by: ClassVar[str | None] = None  # the function of ours that must hear it; None: only the world listens
    job_id: str

    @property
    def type(self) -> str:
        return TYPE_PREFIX + self.name + TYPE_SUFFIX

    @property
    def id(self) -> str:
        """The same fact, the same id: job, step and, where a step can happen again, attempt."""
        return f"{self.job_id}:{self.name}"


@dataclass(frozen=True, kw_only=True)
class Attempted(Event):
    """A fact about one attempt at a job."""

    attempt: int

    @property
    def id(self) -> str:
        return f"{self.job_id}:{self.name}:{self.attempt}"


# --- asked from outside: the data is the request, the actor comes from the signature, the job from the subject ---


@dataclass(frozen=True, kw_only=True)
class Asked(Event):
    """A wish from outside; `asked` is the event's data, `actor` whoever signed for it."""

    shape: ClassVar[type]
    of_a_job: ClassVar[bool] = True  # its subject is a job's id
    actor: Actor
    asked: Any

    @classmethod
    def of(cls, *, job_id: str, actor: Actor, asked: Any) -> Self:
        return cls(job_id=job_id, actor=actor, asked=asked)


@dataclass(frozen=True, kw_only=True)
class JobRequested(Asked):
    name = "job.requested"
    heard_by = "submit"
    shape = JobRequest
    asked: JobRequest


@dataclass(frozen=True, kw_only=True)
class CancelRequested(Asked):
    name = "job.cancel_requested"
    heard_by = "cancel"
    shape = CancelRequest
    asked: CancelRequest


@dataclass(frozen=True, kw_only=True)
class ReviewDecided(Asked):
    name = "review.decided"
    heard_by = "review"
    shape = ReviewDecision
    asked: ReviewDecision


@dataclass(frozen=True, kw_only=True)
class CreditsEarned(Asked):
    """The subject is for whoever reads along: the credits are for the user that the event is signed for."""

    name = "credits.earned"
    heard_by = "earn"
    shape = Achievement
    of_a_job = False
    asked: Achievement


# --- from one function to the next ---


@dataclass(frozen=True, kw_only=True)
class JobSubmitted(Event):
    """Stored and priced; debit takes the price next."""

    name = "job.submitted"
    heard_by = "debit"
    user_id: str
    credits: int


@dataclass(frozen=True, kw_only=True)
class JobDebited(Event):
    """Paid; dispatch puts it in the queue next."""

    name = "job.debited"
    heard_by = "dispatch"
    user_id: str
    credits: int


@dataclass(frozen=True, kw_only=True)
class GrantApproved(Event):
    """Admins want credits given or taken; earn looks the grant up, and moves them. It belongs to no job."""

    name = "grant.approved"
    heard_by = "earn"
    grant_id: str

    @property
    def id(self) -> str:
        return f"{self.grant_id}:{self.name}"


@dataclass(frozen=True, kw_only=True)
class RenderSucceeded(Attempted):
    """The pictures of this attempt are in the outputs bucket, the manifest last.

    cold_start: ComfyUI had painted nothing since it started. cache_hits, cache_misses: model files that lay where
    ComfyUI reads, and those that had to be fetched. vram_*: ComfyUI's first device after the render; 0 when it did not
    say. graph_sha256: of the graph without the job's own output folder, so equal for equal requests. files: the model
    files it was made with. node, gpu: where it was painted, by the node's name and the GPU's UUID. gpu_*: the GPU's
    utilisation during the render, on average; its highest temperature; errors that its driver knows of, which no
    healthy GPU has. None when ComfyUI's image does not tell.
    """

    name = "render.succeeded"
    heard_by = "complete"
    worker: str
    artifacts: Annotated[tuple[Artifact, ...], Len(1)]
    manifest_key: str
    prompt_id: str
    comfyui_version: str
    graph_sha256: str = ""
    files: tuple[File, ...] = ()
    prepare_ms: int
    render_ms: int
    upload_ms: int
    cold_start: bool = False
    cache_hits: int = 0
    cache_misses: int = 0
    fetched_bytes: int = 0
    vram_total_bytes: int = 0
    vram_free_bytes: int = 0
    node: str | None = None
    gpu: str | None = None
    gpu_utilisation_percent: float | None = None
    gpu_temperature_c: int | None = None
    gpu_errors: int | None = None


@dataclass(frozen=True, kw_only=True)
class RenderFailed(Attempted):
    """This attempt ended without pictures; complete retries or refunds."""

    name = "render.failed"
    heard_by = "complete"
    worker: str
    kind: Failure
    code: str
    detail: str


# --- told to the world ---


@dataclass(frozen=True, kw_only=True)
class JobRejected(Event):
    """Never became a job: nothing stored, nothing charged. retry_after_s: when the same request may be let in."""

    name = "job.rejected"
    code: str
    detail: str
    field: str | None = None
    retry_after_s: int | None = None

    @property
    def id(self) -> str:
        """A refusal for now is another fact than the last word on the request."""
        return super().id if self.retry_after_s is None else f"{super().id}:{self.code}"


@dataclass(frozen=True, kw_only=True)
class JobMoved(Attempted):
    """The job stands somewhere new. worker: who holds it, or, on its way back to the queue, who held it."""

    user_id: str
    previous: str
    state: str
    at: datetime
    cause: str | None = None
    worker: str | None = None

    @property
    def id(self) -> str:
        """A job that was given back moves again under the same attempt: the worker tells the two facts apart."""
        return f"{super().id}:{self.worker}" if self.worker else super().id


@dataclass(frozen=True, kw_only=True)
class JobQueued(JobMoved):
    name = "job.queued"


@dataclass(frozen=True, kw_only=True)
class JobDispatching(JobMoved):
    name = "job.dispatching"


@dataclass(frozen=True, kw_only=True)
class JobInProgress(JobMoved):
    name = "job.in_progress"


@dataclass(frozen=True, kw_only=True)
class JobAwaitingReview(JobMoved):
    name = "job.awaiting_review"
    artifacts: tuple[Artifact, ...]


@dataclass(frozen=True, kw_only=True)
class JobCompleted(JobMoved):
    name = "job.completed"


@dataclass(frozen=True, kw_only=True)
class JobFailed(JobMoved):
    name = "job.failed"
    detail: str | None = None


@dataclass(frozen=True, kw_only=True)
class JobCancelled(JobMoved):
    name = "job.cancelled"


@dataclass(frozen=True, kw_only=True)
class ArtifactNews(Event):
    """What became of a picture. `decisions` counts what was decided about it, this included: a picture may be
    discarded, restored and discarded again, and each is a fact of its own."""

    artifact_id: str
    user_id: str
    decisions: int = 1

    @property
    def id(self) -> str:
        return f"{self.artifact_id}:{self.name}:{self.decisions}"


@dataclass(frozen=True, kw_only=True)
class ArtifactAccepted(ArtifactNews):
    """A picture joined a collection: everything a gallery needs to show where it came from.

    bucket, key: the collection's own copy; thumbnails: px -> key, in the same bucket.
    parameters: what the render was asked for beside model, LoRAs and seed; the prompt is the platform's own.
    """

    name = "artifact.accepted"
    reviewer_id: str
    collection_id: str
    bucket: str
    key: str
    sha256: str
    size_bytes: int
    content_type: str
    width_px: int
    height_px: int
    thumbnails: Mapping[str, str]
    workflow_id: str
    workflow_version: str
    workflow_sha256: str
    model: str
    loras: tuple[Mapping[str, Any], ...]
    seed: str
    parameters: Mapping[str, Any]
    tags: tuple[str, ...]
    rendered_at: datetime
    accepted_at: datetime


@dataclass(frozen=True, kw_only=True)
class ArtifactDiscarded(ArtifactNews):
    """A picture was turned down, by a curator or, with the reason `expired`, by the clock; it is hidden now and purged
    after `purged_after`, until which it can be restored."""

    name = "artifact.discarded"
    reviewer_id: str
    reason: str
    purged_after: datetime


@dataclass(frozen=True, kw_only=True)
class ArtifactRestored(ArtifactNews):
    """A discard was undone: the picture is there again, and undecided. Its job stays where it is."""

    name = "artifact.restored"
    reviewer_id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ArtifactPurged(ArtifactNews):
    """A picture's bytes were given up for good; why: discarded, expired or delivered, the time for which is over."""

    name = "artifact.purged"
    why: str


@dataclass(frozen=True, kw_only=True)
class CreditsTransferred(Event):
    """Credits moved between two accounts; the id is the transfer's own."""

    name = "credits.transferred"
    transfer_id: str
    debit_account: str
    credit_account: str
    amount: int
    reason: str

    @property
    def id(self) -> str:
        return f"{self.transfer_id}:{self.name}"


def _leaves(cls: type[Event]) -> list[type[Event]]:
    below = cls.__subclasses__()
    return [cls] if not below else [leaf for sub in below for leaf in _leaves(sub)]


#: type attribute -> class, for every event there is
BY_TYPE: dict[str, type[Event]] = {TYPE_PREFIX + cls.name + TYPE_SUFFIX: cls for cls in _leaves(Event)}
