"""review: a curator keeps or discards a picture.

hears   review.decided
says    artifact.accepted    it was copied into the collection
        artifact.discarded   it is hidden, and purged later
        job.completed        that was the job's last undecided picture
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection

from functions.adapters import artifacts, collections, jobs
from functions.domain.errors import Rejected
from functions.domain.event import ArtifactDiscarded, Event, JobCompleted, ReviewDecided
from functions.domain.job import Job, State


def review(tx: Connection, event: ReviewDecided) -> Sequence[Event]:
    """Keep the decision. Rejected when the picture is unknown, not the actor's to judge, or decided already."""
    actor, asked = event.actor, event.asked
    picture = artifacts.get(tx, asked.artifact_id)
    job = jobs.locked(tx, picture.job_id) if picture else None
    if picture is None or job is None or (actor.user_id != job.user_id and actor.role != "ADMIN"):
        raise Rejected("unknown_artifact", f"there is no picture {asked.artifact_id!r} of yours", field="artifact_id")
    if job.state is not State.AWAITING_REVIEW:
        raise Rejected("not_awaiting_review", f"job {job.id} is {job.state}: there is nothing to decide")
    now = datetime.now(UTC)
    if asked.decision == "discard":
        collection_id, key = None, None
        decided: Event = ArtifactDiscarded(
            job_id=job.id,
            artifact_id=picture.id,
            user_id=job.user_id,
            reviewer_id=actor.user_id,
            reason=asked.reason,
        )
    else:
        collection_id = asked.collection_id or job.collection_id
        if not collection_id:
            raise Rejected("collection_missing", "accepting needs the collection to go to", field="collection_id")
        accepted = collections.hand_over(job, picture, collection_id=collection_id, reviewer_id=actor.user_id)
        decided, key = accepted, accepted.key
    if not artifacts.decide(
        tx, asked, reviewer_id=actor.user_id, collection_id=collection_id, collection_key=key, at=now
    ):
        raise Rejected("already_decided", f"picture {picture.id} was decided before", field="artifact_id")
    return [decided, *_completed(tx, job, now)]


def _completed(tx: Connection, job: Job, now: datetime) -> Sequence[Event]:
    if artifacts.undecided(tx, job.id):
        return ()
    done = job.to(State.COMPLETED, changed_at=now)
    jobs.save(tx, done)
    return [JobCompleted(**done.told(was=job.state))]
