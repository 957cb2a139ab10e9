"""Jobs: ask for pictures, watch them come to be, call them off."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from functions.adapters import artifacts, jobs, outbox, postgres, statements
from functions.api import body, cursor, idempotency
from functions.api.credits import TransactionView
from functions.api.identity import Asker, may_see
from functions.api.jobs_view import JobPage, JobStory, JobSubmittedView, JobView, Made, MoveView, views
from functions.api.problem import documented
from functions.domain.errors import Rejected
from functions.domain.event import Actor, CancelRequested, JobRejected, JobRequested
from functions.domain.job import Job, State
from functions.domain.request import CancelRequest, JobRequest
from functions.hear import Heard, hear

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
SOURCE = "/functions/api"


@router.post(
    "",
    status_code=202,
    openapi_extra=body.documented(JobRequest),
    responses=documented(400, 402, 403, 413, 415, 422, 429),
)
def submit(actor: Asker, raw: body.Raw, response: Response, key: idempotency.Key = None) -> JobSubmittedView:
    """Ask for pictures. 202: the job is stored and priced, and goes its way; what it says is how the job began, also
    when the request is sent again under its key."""
    asked = body.parse(JobRequest, raw)
    job_id = idempotency.job_id(actor, key)
    if key:
        with postgres.transaction() as tx:
            idempotency.hold(tx, job_id, asked)
    event = JobRequested.of(job_id=job_id, actor=actor, asked=asked)
    hear("submit", Heard(source=SOURCE, id=event.id, event=event))
    with postgres.transaction() as tx:
        job, refused = jobs.get(tx, job_id), outbox.refusal(tx, job_id)
    if job is None:
        raise _again(refused)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return JobSubmittedView.of(job)


def _again(refused: JobRejected | None) -> Rejected:
    """The first answer to a request that comes again under its key was no."""
    if refused is None:
        return Rejected("idempotency_key_spent", "this Idempotency-Key was used before: take a new one")
    return Rejected(refused.code, refused.detail, field=refused.field, retry_after_s=refused.retry_after_s)


@router.get("", responses=documented(422))
def listing(
    actor: Asker,
    limit: cursor.Limit = 20,
    cursor_: cursor.Cursor = None,
    state: Annotated[State | None, Query(description="only jobs that stand here")] = None,
) -> JobPage:
    """The asker's own jobs, newest first."""
    before = cursor.decode(cursor_)
    with postgres.transaction() as tx:
        found = jobs.of_user(tx, actor.user_id, state=state, before=before, limit=limit + 1)
        page = found[:limit]
        pictures = artifacts.of_jobs(tx, [job.id for job in page])
    return JobPage(
        jobs=views(page, pictures),
        next_cursor=cursor.encode(page[-1].submitted_at, page[-1].id) if len(found) > limit else None,
    )


@router.get("/{job_id}", responses=documented(404))
def job(job_id: str, actor: Asker) -> JobStory:
    """A job's whole story: where it stands, every move it made, what it cost and what came of it."""
    with postgres.transaction() as tx:
        found = visible(jobs.get(tx, known(job_id)), job_id, actor)
        pictures = artifacts.of_jobs(tx, [found.id])
        moves = jobs.history(tx, found.id)
        lines = statements.of_job(tx, found.id)
    [view] = views([found], pictures)
    return JobStory(
        **vars(view),
        made=Made.model_validate(found.made) if found.made else None,
        history=[MoveView(**vars(move)) for move in moves],
        transactions=[TransactionView.of(line) for line in lines],
    )


@router.delete("/{job_id}", responses=documented(404, 409))
def cancel(job_id: str, actor: Asker) -> JobView:
    """Call a job off, and see it called off. Doing so again changes nothing."""
    event = CancelRequested.of(job_id=known(job_id), actor=actor, asked=CancelRequest())
    hear("cancel", Heard(source=SOURCE, id=event.id, event=event))
    with postgres.transaction() as tx:
        found = visible(jobs.get(tx, job_id), job_id, actor)
        pictures = artifacts.of_jobs(tx, [found.id])
    return views([found], pictures)[0]


def known(job_id: str) -> str:
    """An id that can be looked up; Rejected when no job could have it."""
    if "\0" in job_id:
        raise Rejected("unknown_job", "there is no such job of yours", field="job_id")
    return job_id


def visible(job: Job | None, job_id: str, actor: Actor) -> Job:
    """The job, if the actor may see it; whoever may not cannot tell it from one that is not there."""
    if job is None or not may_see(actor, job):
        raise Rejected("unknown_job", f"there is no job {job_id[:64]!r} of yours", field="job_id")
    return job
