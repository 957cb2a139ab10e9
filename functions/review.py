"""review: a curator keeps or discards a picture, or takes a discard back.

hears   review.decided
says    artifact.accepted    it was copied into the collection
        artifact.discarded   it is hidden, and purged later
        artifact.restored    a discard was undone; it is there again, undecided
        credits.transferred  what a discard gives back, or its undo takes
        job.completed        that was the job's last undecided picture
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection

from functions.adapters import artifacts, collections, jobs, ledger, objects, reviews
from functions.adapters.artifacts import Kept
from functions.config import config
from functions.domain import transfer
from functions.domain.errors import InsufficientCredits, Rejected
from functions.domain.event import (
    Actor,
    ArtifactAccepted,
    ArtifactDiscarded,
    ArtifactRestored,
    Event,
    JobCompleted,
    ReviewDecided,
)
from functions.domain.job import Job, State
from functions.domain.request import ReviewDecision

#: A completed job has undecided pictures only where a discard was undone: it stays completed, for that was told and
#: there is no way back, and its pictures can be decided about all the same.
REVIEWABLE = frozenset({State.AWAITING_REVIEW, State.COMPLETED})


def review(tx: Connection, event: ReviewDecided) -> Sequence[Event]:
    """Keep the decision. Rejected when the picture is unknown, not the actor's to judge, or decided already: of two
    curators at once the second waits for the first, and is told what that one did."""
    actor, asked = event.actor, event.asked
    found = artifacts.get(tx, asked.artifact_id)
    job = jobs.locked(tx, found.job_id) if found else None
    if found is None or job is None or (actor.user_id != job.user_id and actor.role != "ADMIN"):
        raise Rejected("unknown_artifact", f"there is no picture {asked.artifact_id!r} of yours", field="artifact_id")
    picture = artifacts.get(tx, found.id) or found  # whoever held the job before may have decided
    now = datetime.now(UTC)
    if asked.decision == "restore":
        return _restore(tx, job, picture, event, now)
    if picture.decision is not None:
        raise Rejected("already_decided", _told_before(tx, picture), field="artifact_id")
    if job.state not in REVIEWABLE:
        raise Rejected("not_awaiting_review", f"job {job.id} is {job.state}: there is nothing to decide")
    if asked.decision == "discard":
        decided = _discard(tx, job, picture, event, now)
    else:
        decided = [_accept(tx, job, picture, actor, asked, now)]
    return [*decided, *_completed(tx, job, now)]


def _accept(tx: Connection, job: Job, picture: Kept, actor: Actor, asked: ReviewDecision, now: datetime) -> Event:
    collection_id = asked.collection_id or job.collection_id
    if not collection_id:
        raise Rejected("collection_missing", "accepting needs the collection to go to", field="collection_id")
    _may_write(actor, collection_id)
    accepted = collections.hand_over(job, picture, collection_id=collection_id, reviewer_id=actor.user_id, at=now)
    _keep(tx, picture, actor, asked, now, accepted)
    if config().collect_by == "move":
        objects.release(tx, picture.id, at=now)
    return accepted


def _may_write(actor: Actor, collection_id: str) -> None:
    """Rejected when the platform has not vouched that this user may write to this collection."""
    named = actor.collections
    vouched = config().collections_claim == "optional" if named is None else collection_id in named
    if not vouched and actor.role != "ADMIN":
        said = "names none" if named is None else "names others"
        raise Rejected(
            "collection_not_yours", f"the token's claim `collections` {said}: ask the platform", field="collection_id"
        )


def _discard(tx: Connection, job: Job, picture: Kept, event: ReviewDecided, now: datetime) -> list[Event]:
    """Hide the picture; its part of the price comes back as far as DISCARD_REFUND_PERCENT says."""
    actor, asked = event.actor, event.asked
    _keep(tx, picture, actor, asked, now)
    told: list[Event] = [
        ArtifactDiscarded(
            job_id=job.id,
            artifact_id=picture.id,
            decisions=picture.decisions + 1,
            user_id=job.user_id,
            reviewer_id=actor.user_id,
            reason=asked.reason,
            purged_after=now + config().periods.discarded,
        )
    ]
    back = transfer.discarded(
        job,
        picture.index,
        config().discard_policy,
        reason=asked.reason,
        authorised_by=f"user:{actor.user_id}",
        instruction=event.id,
        times=picture.decisions // 2 + 1,  # each undo is a decision as well
    )
    refund = ledger.post(tx, back) if back else None
    return [*told, refund] if refund else told


def _restore(tx: Connection, job: Job, picture: Kept, event: ReviewDecided, now: datetime) -> list[Event]:
    """Undo a discard, and what it gave back; Rejected when there is none, it was purged, or the account lacks that."""
    actor, asked = event.actor, event.asked
    if not artifacts.restore(tx, picture.id, reviewer_id=actor.user_id, reason=asked.reason, at=now):
        if picture.decision == "discard":
            raise Rejected("purged", f"picture {picture.id} was purged: nothing is left to restore")
        raise Rejected("not_discarded", f"picture {picture.id} is not discarded: there is nothing to restore")
    told: list[Event] = [
        ArtifactRestored(
            job_id=picture.job_id,
            artifact_id=picture.id,
            decisions=picture.decisions + 1,
            user_id=picture.user_id,
            reviewer_id=actor.user_id,
            reason=asked.reason,
        )
    ]
    undo = transfer.restored(
        job,
        picture.index,
        authorised_by=f"user:{actor.user_id}",
        instruction=event.id,
        times=(picture.decisions + 1) // 2,
    )
    try:
        paid = ledger.post(tx, undo)
    except InsufficientCredits as short:
        raise Rejected("insufficient_credits", f"discarding it gave credits back: {short}") from short
    return [*told, paid] if paid else told


def _keep(
    tx: Connection,
    picture: Kept,
    actor: Actor,
    asked: ReviewDecision,
    now: datetime,
    accepted: ArtifactAccepted | None = None,
) -> None:
    if not artifacts.decide(
        tx,
        asked,
        reviewer_id=actor.user_id,
        collection_id=accepted.collection_id if accepted else None,
        collection_key=accepted.key if accepted else None,
        at=now,
    ):
        raise Rejected("already_decided", _told_before(tx, picture), field="artifact_id")


def _told_before(tx: Connection, picture: Kept) -> str:
    """Who decided what, for whoever comes second."""
    last = reviews.history(tx, picture.id)[-1]
    into = f" into {last.collection_id!r}" if last.collection_id else ""
    done = {"accept": "accepted", "discard": "discarded", "deliver": "delivered", "purge": "purged"}[last.decision]
    return f"picture {picture.id} was {done}{into} by {last.reviewer_id} at {last.at:%Y-%m-%d %H:%M:%S} UTC"


def _completed(tx: Connection, job: Job, now: datetime) -> Sequence[Event]:
    if job.state is State.COMPLETED or artifacts.undecided(tx, job.id):
        return ()
    done = job.to(State.COMPLETED, changed_at=now)
    jobs.save(tx, done)
    return [JobCompleted(**done.told(was=job.state))]
