"""Reviews: a curator keeps or discards pictures, up to a hundred at a time; each decision stands for itself."""

import logging
import uuid
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Len
from fastapi import APIRouter
from pydantic import BaseModel

from functions.adapters import storage
from functions.api import body
from functions.api.idempotency import Key
from functions.api.identity import Asker
from functions.api.problem import documented
from functions.domain.errors import Rejected, Unavailable
from functions.domain.event import Actor, ReviewDecided
from functions.domain.request import CLOSED, ReviewDecision
from functions.hear import Heard, hear

router = APIRouter(prefix="/v1/reviews", tags=["reviews"])
log = logging.getLogger(__name__)
DONE: dict[str, Literal["accepted", "discarded"]] = {"accept": "accepted", "discard": "discarded"}


@dataclass(frozen=True, kw_only=True)
class ReviewRequest:
    """Decisions, in the order they are to be made."""

    __pydantic_config__: ClassVar = CLOSED
    decisions: Annotated[tuple[ReviewDecision, ...], Len(1, 100)]


class Decided(BaseModel):
    """What became of one decision; `refused` comes with a code and a sentence."""

    artifact_id: str
    status: Literal["accepted", "discarded", "refused"]
    code: str | None = None
    detail: str | None = None


class Reviewed(BaseModel):
    """One result for each decision, in the order they came."""

    results: list[Decided]


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
