"""What the clock decides about pictures and jobs, a page at a time.

Each page is locked row by row, past what others hold, and leaves what is due by what is done to it: two runs at once
share the work, and a run that is killed has done whole pages. No page costs more for what was done before or comes
after.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from functions.domain.event import ArtifactDiscarded, ArtifactPurged, Event, JobCompleted
from functions.domain.job import State
from functions.domain.retention import EXPIRED, Why

SOURCE = "/functions/retention"
PAGE = 500


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a page did: how often and with how many bytes, by why, what is to be told of it, and whether there may be
    more."""

    done: Mapping[Why, tuple[int, int]]
    events: Sequence[Event] = ()
    more: bool = False


UNREVIEWED = text("""
SELECT id FROM generator_job AS job
WHERE state = 'awaiting_review' AND changed_at < :before AND NOT EXISTS (
    SELECT FROM generator_artifact AS a
    WHERE a.job_id = job.id AND a.decision IS NULL AND a.restored_at >= :before)
ORDER BY changed_at, id LIMIT :limit FOR UPDATE SKIP LOCKED
""")
RESTORED = text("""
SELECT a.id FROM generator_artifact AS a
WHERE a.decision IS NULL AND a.restored_at < :before
  AND EXISTS (SELECT FROM generator_job AS job WHERE job.id = a.job_id AND job.state = 'completed')
ORDER BY a.restored_at, a.id LIMIT :limit FOR UPDATE SKIP LOCKED
""")
DISCARD = text("""
WITH discarded AS (
    UPDATE generator_artifact SET decision = 'discard', decided_at = :at, decisions = decisions + 1
    WHERE decision IS NULL AND (job_id = ANY(:job_ids) OR id = ANY(:ids))
    RETURNING id, job_id, user_id, decisions, size_bytes
), said AS (
    INSERT INTO generator_review (artifact_id, job_id, reviewer_id, decision, reason, at)
    SELECT id, job_id, :by, 'discard', :reason, :at FROM discarded
)
SELECT id, job_id, user_id, decisions, size_bytes FROM discarded ORDER BY id
""")
COMPLETE = text("""
UPDATE generator_job SET state = 'completed', cause = :cause, detail = NULL, changed_at = :at
WHERE id = ANY(:job_ids) RETURNING id, user_id, attempt
""")


def expire(tx: Connection, *, before: datetime, purged_after: datetime, at: datetime) -> Page:
    """Complete jobs that have waited for a review since before this moment, with the cause `expired`; what is undecided
    of them is discarded, as a curator would. So is what was restored before it, and whose job is completed already."""
    job_ids = list(tx.execute(UNREVIEWED, {"before": before, "limit": PAGE}).scalars())
    room = PAGE - len(job_ids)
    ids = list(tx.execute(RESTORED, {"before": before, "limit": room}).scalars()) if room else []
    if not job_ids and not ids:
        return Page(done={})
    values = {"job_ids": job_ids, "ids": ids, "by": SOURCE, "reason": EXPIRED, "at": at}
    rows = tx.execute(DISCARD, values).all()
    finished = tx.execute(COMPLETE, {"job_ids": job_ids, "cause": EXPIRED, "at": at}).all()
    told: list[Event] = [
        ArtifactDiscarded(
            job_id=row.job_id,
            artifact_id=row.id,
            user_id=row.user_id,
            decisions=row.decisions,
            reviewer_id=SOURCE,
            reason=EXPIRED,
            purged_after=purged_after,
        )
        for row in rows
    ]
    told += [
        JobCompleted(
            job_id=row.id,
            attempt=row.attempt,
            user_id=row.user_id,
            previous=State.AWAITING_REVIEW,
            state=State.COMPLETED,
            at=at,
            cause=EXPIRED,
        )
        for row in finished
    ]
    done = {Why.EXPIRED: (len(rows), sum(row.size_bytes for row in rows))}
    return Page(done=done, events=told, more=len(job_ids) + len(ids) == PAGE)


DUE = text("""
SELECT id, object_key FROM generator_artifact
WHERE released_at IS NULL AND decision = :decision AND decided_at < :before
ORDER BY decided_at, id LIMIT :limit FOR UPDATE SKIP LOCKED
""")
# In the order in which new pictures take objects up, so that nobody waits for one who waits.
HOLD = text("SELECT FROM generator_object WHERE key = ANY(:keys) ORDER BY sha256, key FOR UPDATE")
RELEASE = text("""
WITH gone AS (
    UPDATE generator_artifact
    SET released_at = :at, purged_at = CASE WHEN decision <> 'accept' THEN CAST(:at AS timestamptz) END,
        decisions = decisions + (decision <> 'accept')::integer
    WHERE id = ANY(:ids)
    RETURNING id, job_id, user_id, decision, decisions, size_bytes, object_key
), freed AS (
    UPDATE generator_object AS held
    SET refs = held.refs - part.refs, freed_at = CASE WHEN held.refs = part.refs THEN CAST(:at AS timestamptz) END
    FROM (SELECT object_key, count(*)::integer AS refs FROM gone GROUP BY object_key) AS part
    WHERE held.key = part.object_key
), why AS (
    SELECT gone.*, CASE decision WHEN 'accept' THEN 'curated' WHEN 'deliver' THEN 'delivered' ELSE coalesce((
        SELECT CASE WHEN reviewer_id = :by THEN 'expired' END FROM generator_review AS review
        WHERE review.artifact_id = gone.id AND review.decision = 'discard' ORDER BY review.id DESC LIMIT 1
    ), 'discarded') END AS why
    FROM gone
), said AS (
    INSERT INTO generator_review (artifact_id, job_id, reviewer_id, decision, reason, at)
    SELECT id, job_id, :by, 'purge', why, :at FROM why WHERE decision <> 'accept'
)
SELECT id, job_id, user_id, decisions, size_bytes, why FROM why ORDER BY id
""")


def purge(tx: Connection, decision: str, *, before: datetime, at: datetime) -> Page:
    """Let go of the objects of pictures that were decided this way before this moment. Discarded and delivered ones are
    purged with that; of accepted ones only the second copy goes, for their collection has the first."""
    due = tx.execute(DUE, {"decision": decision, "before": before, "limit": PAGE}).all()
    if not due:
        return Page(done={})
    tx.execute(HOLD, {"keys": [row.object_key for row in due]})
    rows = tx.execute(RELEASE, {"ids": [row.id for row in due], "by": SOURCE, "at": at}).all()
    done: dict[Why, tuple[int, int]] = {}
    for row in rows:
        count, size_bytes = done.get(Why(row.why), (0, 0))
        done[Why(row.why)] = (count + 1, size_bytes + row.size_bytes)
    told = [
        ArtifactPurged(job_id=row.job_id, artifact_id=row.id, user_id=row.user_id, decisions=row.decisions, why=row.why)
        for row in rows
        if row.why != Why.CURATED
    ]
    return Page(done=done, events=told, more=len(due) == PAGE)


STALE = text("""
SELECT id FROM generator_job
WHERE state IN ('submitted', 'debited', 'queued', 'dispatching', 'in_progress') AND changed_at < :before AND id > :after
ORDER BY id LIMIT :limit
""")


def stale(tx: Connection, *, before: datetime, after: str) -> list[str]:
    """Unfinished jobs that have not moved since this moment, in id order from just above `after`: few, as such jobs
    are."""
    return list(tx.execute(STALE, {"before": before, "after": after, "limit": PAGE}).scalars())


FORGET = text("SELECT generator_forget(:what, :before, :most)")


def forget(tx: Connection, what: str, *, before: datetime, most: int) -> int:
    """Drop rows of inbox, outbox or signature_seen that nothing can ask about any more; gives how many."""
    return int(tx.execute(FORGET, {"what": what, "before": before, "most": most}).scalar_one())


WOULD_EXPIRE = text("""
SELECT count(*) AS pictures, coalesce(sum(a.size_bytes), 0)::bigint AS size_bytes
FROM generator_artifact AS a JOIN generator_job AS job ON job.id = a.job_id
WHERE a.decision IS NULL AND (
    (job.state = 'completed' AND a.restored_at < :before)
    OR (job.state = 'awaiting_review' AND job.changed_at < :before AND NOT EXISTS (
        SELECT FROM generator_artifact AS other
        WHERE other.job_id = job.id AND other.decision IS NULL AND other.restored_at >= :before)))
""")
WOULD_RELEASE = text("""
WITH part AS (
    SELECT object_key, count(*) AS refs, sum(size_bytes) AS size_bytes FROM generator_artifact
    WHERE released_at IS NULL AND decision = :decision AND decided_at < :before GROUP BY object_key
)
SELECT coalesce(sum(part.refs), 0)::bigint AS pictures, coalesce(sum(part.size_bytes), 0)::bigint AS size_bytes,
    count(*) FILTER (WHERE held.refs = part.refs) AS objects,
    coalesce(sum(held.size_bytes + held.thumbnail_bytes) FILTER (WHERE held.refs = part.refs), 0)::bigint
        AS object_bytes
FROM part JOIN generator_object AS held ON held.key = part.object_key
""")


def would_expire(tx: Connection, *, before: datetime) -> tuple[int, int]:
    """How many pictures `expire` would discard now, and their bytes."""
    row = tx.execute(WOULD_EXPIRE, {"before": before}).one()
    return row.pictures, row.size_bytes


def would_purge(tx: Connection, decision: str, *, before: datetime) -> tuple[tuple[int, int], tuple[int, int]]:
    """How many pictures `purge` would let go of now, with their bytes, and how many objects that would free, with
    theirs."""
    row = tx.execute(WOULD_RELEASE, {"decision": decision, "before": before}).one()
    return (row.pictures, row.size_bytes), (row.objects, row.object_bytes)
