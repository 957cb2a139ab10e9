"""Jobs that no retry could help: list, look, ask anew, drop."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Len, Predicate
from fastapi import APIRouter, Query
from pydantic import BaseModel

from functions import operate
from functions.adapters import dead_jobs, postgres
from functions.adapters.dead_jobs import DeadJob, Wanted
from functions.api import body
from functions.api.admin.role import Admin, Why, by
from functions.api.cursor import Limit
from functions.api.problem import documented
from functions.domain.errors import Failure, Rejected
from functions.domain.request import CLOSED, Name, Reason
from functions.domain.text import storable
from functions.operate import Outcome

router = APIRouter(prefix="/v1/admin/dead-letters", tags=["admin"])
MOST = 100
Id = Annotated[str, Len(1, 64), Predicate(storable)]
Text = Annotated[str | None, Query(max_length=200)]


class DeadJobView(BaseModel):
    """A job that failed for good and was refunded; `number` is the order in which they died."""

    number: int
    job_id: str
    root: str
    serial: int
    standing: Literal["open", "requeued", "dropped"]
    user_id: str
    role: str
    pool: str
    model: str
    workflow_id: str
    credits: int
    code: str
    kind: Failure
    attempts: int
    died_at: datetime
    requeued_as: str | None
    requeued_at: datetime | None
    requeued_by: str | None
    dropped_at: datetime | None
    dropped_by: str | None
    dropped_why: str | None


class ErrorView(BaseModel):
    """What went wrong with one attempt; `given_back`, which costs none, has no kind."""

    attempt: int
    code: str
    kind: str | None
    detail: str | None
    worker: str | None
    at: datetime


class DeadJobStory(DeadJobView):
    """The same with the history of its errors, oldest first."""

    errors: list[ErrorView]


class DeadJobPage(BaseModel):
    """A page, in the order they died; `next_after` is missing on the last."""

    jobs: list[DeadJobView]
    next_after: int | None = None


@dataclass(frozen=True, kw_only=True)
class Which:
    """Dead jobs that wait: `job_ids`, or those to which all that is given applies, or `all` of them."""

    __pydantic_config__: ClassVar = CLOSED
    job_ids: Annotated[tuple[Id, ...], Len(1, MOST)] | None = None
    code: Name | None = None
    pool: Name | None = None
    user_id: Name | None = None
    model: Name | None = None
    all: bool = False


@dataclass(frozen=True, kw_only=True)
class RequeueRequest(Which):
    """Ask for these once more."""

    __pydantic_config__: ClassVar = CLOSED
    reason: Reason = ""


@dataclass(frozen=True, kw_only=True)
class DropRequest(Which):
    """Take these off the list for good."""

    __pydantic_config__: ClassVar = CLOSED
    reason: Why


class OutcomeView(BaseModel):
    """What became of one; `refused` comes with a code and a sentence."""

    job_id: str
    status: Literal["requeued", "dropped", "refused"]
    requeued_as: str | None = None
    code: str | None = None
    detail: str | None = None


class Outcomes(BaseModel):
    """One result for each; with `more`, send the same again for the next hundred."""

    results: list[OutcomeView]
    more: bool


@router.get("", responses=documented(403, 422))
def listing(
    actor: Admin,
    limit: Limit = 50,
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="`next_after` of the page before")] = 0,
    code: Text = None,
    pool: Text = None,
    user_id: Text = None,
    model: Text = None,
    settled: Annotated[bool, Query(description="requeued and dropped ones as well")] = False,
) -> DeadJobPage:
    """Dead jobs that wait for somebody, in the order they died."""
    wanted = Wanted(code=code, pool=pool, user_id=user_id, model=model, settled=settled)
    for text in (code, pool, user_id, model):
        if text is not None and not storable(text):
            raise Rejected("invalid_request", "a filter must not hold a NUL character")
    with postgres.transaction() as tx:
        found = dead_jobs.find(tx, wanted, after=after, limit=limit + 1)
    page = found[:limit]
    return DeadJobPage(
        jobs=[DeadJobView(**_told(one)) for one in page],
        next_after=page[-1].number if len(found) > limit else None,
    )


@router.get("/{job_id}", responses=documented(403, 404))
def dead_job(job_id: str, actor: Admin) -> DeadJobStory:
    """One dead job, with what went wrong in each attempt."""
    found = None
    if storable(job_id):
        with postgres.transaction() as tx:
            found = dead_jobs.get(tx, job_id)
            errors = dead_jobs.errors(tx, job_id)
    if found is None:
        raise Rejected("unknown_dead_job", "there is no such dead job", field="job_id")
    return DeadJobStory(**_told(found), errors=[ErrorView(**vars(one)) for one in errors])


@router.post("/requeue", openapi_extra=body.documented(RequeueRequest), responses=documented(400, 403, 413, 415, 422))
def requeue(actor: Admin, raw: body.Raw) -> Outcomes:
    """Ask for them once more, with the same seed, in their users' names: jobs of their own, which are paid again. Up to
    a hundred a call, each for itself; sending it again asks for none twice."""
    asked = body.parse(RequeueRequest, raw)
    chosen, more = _chosen(asked)
    return _outcomes("requeued", operate.requeue(chosen, by=by(actor), reason=asked.reason), more)


@router.post("/drop", openapi_extra=body.documented(DropRequest), responses=documented(400, 403, 413, 415, 422))
def drop(actor: Admin, raw: body.Raw) -> Outcomes:
    """Take them off the list for good, up to a hundred a call. Who did it and why is kept."""
    asked = body.parse(DropRequest, raw)
    chosen, more = _chosen(asked)
    return _outcomes("dropped", operate.drop(chosen, by=by(actor), reason=asked.reason), more)


def _chosen(asked: Which) -> tuple[list[str], bool]:
    """The ids that are meant, at most a hundred, and whether there are more; saying nothing chooses nothing."""
    filtered = any((asked.code, asked.pool, asked.user_id, asked.model))
    if bool(asked.job_ids) + filtered + asked.all != 1:
        raise Rejected("invalid_request", "give job_ids, or a filter (code, pool, user_id, model), or all")
    if asked.job_ids:
        return list(asked.job_ids), False
    wanted = Wanted(code=asked.code, pool=asked.pool, user_id=asked.user_id, model=asked.model, until=datetime.now(UTC))
    found = [one.job_id for one in islice(operate.each(wanted), MOST + 1)]
    return found[:MOST], len(found) > MOST


def _outcomes(status: Literal["requeued", "dropped"], done: Iterator[Outcome], more: bool) -> Outcomes:
    results = [
        OutcomeView(job_id=one.job_id, status=status, requeued_as=one.requeued_as)
        if one.problem is None
        else OutcomeView(job_id=one.job_id, status="refused", code=one.code, detail=one.problem)
        for one in done
    ]
    return Outcomes(results=results, more=more)


def _told(dead: DeadJob) -> dict[str, Any]:
    return dict(dead_jobs.record(dead))
