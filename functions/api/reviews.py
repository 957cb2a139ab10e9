"""Reviews: what waits for a curator, and what curators decide, up to a hundred pictures at a time; each decision
stands for itself."""

import logging
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Len, Predicate
from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from functions.adapters import postgres, reviews, storage
from functions.adapters.reviews import Wanted
from functions.api import body, cursor
from functions.api.artifacts import ArtifactView
from functions.api.idempotency import Key
from functions.api.identity import ADMIN, Asker
from functions.api.problem import documented
from functions.domain.errors import Rejected, Unavailable
from functions.domain.event import Actor, ReviewDecided
from functions.domain.request import CLOSED, ReviewDecision
from functions.domain.text import storable
from functions.hear import Heard, hear

router = APIRouter(prefix="/v1/reviews", tags=["reviews"])
log = logging.getLogger(__name__)
Text = Annotated[str, Len(1, 200), Predicate(storable)]
DONE: dict[str, Literal["accepted", "discarded", "restored"]] = {
    "accept": "accepted",
    "discard": "discarded",
    "restore": "restored",
}


class Filters(BaseModel):
    """Which pictures; a filter left out lets all pass."""

    model_config = ConfigDict(extra="forbid")
    standing: Literal["undecided", "accepted", "discarded", "delivered"] = Field(
        "undecided", description="discarded: those that can be restored still"
    )
    user_id: Text | None = Field(None, description="whose; for administrators")
    job_id: Text | None = None
    model: Text | None = None
    workflow_id: Text | None = None
    collection_id: Text | None = Field(None, description="they are in it, or were asked for it")
    tag: Text | None = None
    since: AwareDatetime | None = Field(None, description="rendered at this moment or later")
    until: AwareDatetime | None = Field(None, description="rendered before this moment")
    limit: int = Field(20, ge=1, le=100, description="how many at the most")
    cursor: str | None = Field(None, max_length=600, description="`next_cursor` of the page before")

    def of(self, actor: Actor) -> Wanted:
        """What this actor may see of it."""
        asked = self.model_dump(exclude={"limit", "cursor"})
        return Wanted(**asked | ({} if actor.role == ADMIN else {"user_id": actor.user_id}))


@dataclass(frozen=True, kw_only=True)
class ReviewRequest:
    """Decisions, in the order they are to be made."""

    __pydantic_config__: ClassVar = CLOSED
    decisions: Annotated[tuple[ReviewDecision, ...], Len(1, 100)]


class Decided(BaseModel):
    """What became of one decision; `refused` comes with a code and a sentence."""

    artifact_id: str
    status: Literal["accepted", "discarded", "restored", "refused"]
    code: str | None = None
    detail: str | None = None


class Reviewed(BaseModel):
    """One result for each decision, in the order they came."""

    results: list[Decided]


class LoraView(BaseModel):
    """A LoRA and its strength."""

    id: str
    strength: float


class WaitingView(ArtifactView):
    """A picture, and all that went into it."""

    user_id: str
    restored_at: datetime | None
    prompt: str
    negative_prompt: str
    workflow_id: str
    workflow_version: str
    model: str
    loras: list[LoraView]
    seed: str
    parameters: dict[str, Any]
    tags: list[str]


class WaitingPage(BaseModel):
    """Pictures, oldest first; without `next_cursor` it is the last page."""

    pictures: list[WaitingView]
    next_cursor: str | None = None


@router.get("", responses=documented(422))
def waiting(actor: Asker, wanted: Annotated[Filters, Query()]) -> WaitingPage:
    """Pictures that wait for a decision, or, by `standing`, those that were decided. One's own; an administrator sees
    everybody's."""
    asked = wanted.of(actor)
    with postgres.transaction() as tx:
        found = reviews.find(tx, asked, after=cursor.decode(wanted.cursor), limit=wanted.limit + 1)
    page = found[: wanted.limit]
    last = page[-1].picture if len(found) > wanted.limit else None
    return WaitingPage(
        pictures=[WaitingView.model_validate(vars(one.picture) | dict(one.made)) for one in page],
        next_cursor=cursor.encode(last.created_at, last.id) if last else None,
    )


@router.post("", openapi_extra=body.documented(ReviewRequest), responses=documented(400, 413, 415, 422))
def review(actor: Asker, raw: body.Raw, key: Key = None) -> Reviewed:
    """Decide about pictures. 200 whatever became of each; the results say."""
    asked = body.parse(ReviewRequest, raw)
    results: list[Decided] = []
    for decision in asked.decisions:
        try:
            results.append(_decide(actor, decision, key))
        except Unavailable as error:
            if not results:
                raise
            log.warning("review: %s", error)
            rest = asked.decisions[len(results) :]
            return Reviewed(results=results + [_refused(one, "unavailable", f"{error}: try again") for one in rest])
    return Reviewed(results=results)


def _decide(actor: Actor, decision: ReviewDecision, key: str | None) -> Decided:
    told_again_as = f"{actor.user_id}:{key}:{decision.artifact_id}:{decision.decision}" if key else str(uuid.uuid4())
    job_id = decision.artifact_id.rpartition("-")[0]  # a picture's id is its job's and its number
    event = ReviewDecided.of(job_id=job_id, actor=actor, asked=decision)
    try:
        hear("review", Heard(source="/functions/api", id=told_again_as, event=event))
    except Rejected as no:
        return _refused(decision, no.code, no.detail)
    except storage.Missing:
        return _refused(decision, "object_missing", "the picture's file is gone from the store: discard it")
    return Decided(artifact_id=decision.artifact_id, status=DONE[decision.decision])


def _refused(decision: ReviewDecision, code: str, detail: str) -> Decided:
    return Decided(artifact_id=decision.artifact_id, status="refused", code=code, detail=detail)
