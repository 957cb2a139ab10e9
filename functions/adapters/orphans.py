"""The store and the rows, compared: objects that no row knows, rows whose object is gone, uploads that never ended.

Both are read in the order of their keys, a page at a time, so that the comparison needs as little memory for a million
objects as for a thousand.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import groupby

from sqlalchemy import text

from functions.adapters import artifacts, collections, jobs, objects, postgres, storage
from functions.adapters.storage import Stored
from functions.config import config
from functions.domain import retention
from functions.domain.job import State
from functions.domain.retention import Found, Periods, Why

PREFIX = "generated/"
ROWS = 1000
Done = tuple[Why, int, int]

ONLY = text("SELECT pg_try_advisory_xact_lock(hashtext('generator: the store is walked'))")


@contextmanager
def only_walker() -> Iterator[bool]:
    """Whether nobody else walks the store; as long as the block runs, nobody else will."""
    with postgres.transaction() as tx:
        yield bool(tx.execute(ONLY).scalar_one())


def walk(periods: Periods, *, now: datetime, dry_run: bool) -> Iterator[Done]:
    """Delete what no row knows, and mark rows whose object is gone; gives why, how often and how many bytes, page by
    page. What is younger than its grace, or not a runner's by its key, stays."""
    bucket, after = config().outputs_bucket, PREFIX
    for page in storage.pages(bucket, PREFIX):
        unneeded = _unneeded(page, periods, now)
        if not dry_run:
            storage.delete(bucket, [stored.key for stored, _ in unneeded])
        yield from _summed(unneeded)
        if page:
            listed, last = {stored.key for stored in page}, max(stored.key for stored in page)
            yield from _missing(listed, after, last, periods, now, dry_run=dry_run)
            after = last
    yield from _missing(set(), after, None, periods, now, dry_run=dry_run)


STATES = text("SELECT id, state FROM generator_job WHERE id = ANY(:ids)")
# A manifest says how an attempt's pictures were made; it is needed while one of them is.
DESCRIBED = text("""
SELECT DISTINCT job_id, attempt FROM generator_artifact WHERE job_id = ANY(:ids) AND purged_at IS NULL
""")


def _unneeded(page: Sequence[Stored], periods: Periods, now: datetime) -> list[tuple[Stored, Why]]:
    found = [(stored, one) for stored in page if (one := retention.read(stored.key))]
    ids = list({one.job_id for _, one in found})
    with postgres.transaction() as tx:
        known = objects.known(tx, [key for _, one in found for key in one.pictures])
        states = {row.id: State(row.state) for row in tx.execute(STATES, {"ids": ids})}
        described = {(row.job_id, row.attempt) for row in tx.execute(DESCRIBED, {"ids": ids})}

    def needed(one: Found) -> bool:
        return any(key in known for key in one.pictures) if one.pictures else (one.job_id, one.attempt) in described

    judged = [
        (
            stored,
            retention.why_unneeded(
                states.get(one.job_id), needed=needed(one), age=now - stored.modified_at, periods=periods
            ),
        )
        for stored, one in found
    ]
    return [(stored, why) for stored, why in judged if why]


def _missing(
    listed: set[str], after: str, until: str | None, periods: Periods, now: datetime, *, dry_run: bool
) -> Iterator[Done]:
    """Rows between two keys whose object the listing does not have, and, asked by name, neither has the store."""
    while True:
        with postgres.transaction() as tx:
            rows = objects.needed(tx, after=after, until=until, before=now - periods.orphans, limit=ROWS)
        for key, size_bytes in rows:
            if key in listed or storage.size(config().outputs_bucket, key) is not None:
                continue
            if not dry_run:
                with postgres.transaction() as tx:
                    if not objects.mark_missing(tx, key, at=now):
                        continue
            yield Why.MISSING, 1, size_bytes
        if len(rows) < ROWS:
            return
        after = rows[-1][0]


COPY = re.compile(r"collections/[^/]+/(?P<artifact>[^/]+?)(?:\.thumbnail-[0-9]+)?\.(?:png|jpg|webp)")


def walk_collections(periods: Periods, *, now: datetime, dry_run: bool) -> Iterator[Done]:
    """Delete copies that an acceptance left behind which was never kept; whatever else lies in the bucket is the
    platform's, and left alone. Gives what `walk` gives."""
    bucket = config().collections_bucket
    for page in storage.pages(bucket, collections.PREFIX):
        copies = [
            (match["artifact"], stored)
            for stored in page
            if now - stored.modified_at >= periods.orphans and (match := COPY.fullmatch(stored.key))
        ]
        for artifact_id, those in groupby(sorted(copies, key=lambda copy: copy[0]), key=lambda copy: copy[0]):
            left = _left_behind(artifact_id, [stored for _, stored in those], dry_run=dry_run)
            yield from _summed([(stored, Why.ORPHAN) for stored in left])


def _left_behind(artifact_id: str, copies: Sequence[Stored], *, dry_run: bool) -> list[Stored]:
    """The copies that no acceptance stands for. The job is held meanwhile, as a review holds it between its copy and
    its commit: the age of a copy says nothing, where a store lets it have that of its source."""
    with postgres.transaction() as tx:
        picture = artifacts.get(tx, artifact_id)
        if picture is None or (picture.decision == "accept" and all(_is_of(one, picture) for one in copies)):
            return []
        jobs.locked(tx, picture.job_id)
        picture = artifacts.get(tx, artifact_id) or picture
        left = [one for one in copies if picture.decision != "accept" or not _is_of(one, picture)]
        if not dry_run:
            storage.delete(config().collections_bucket, [one.key for one in left])
    return left


def _is_of(copy: Stored, picture: artifacts.Kept) -> bool:
    key = str(picture.collection_key)
    return copy.key == key or copy.key in {collections.thumbnail_key(key, px) for px in picture.thumbnails}


def _summed(deleted: Sequence[tuple[Stored, Why]]) -> Iterator[Done]:
    for why in sorted({why for _, why in deleted}):
        sizes = [stored.size_bytes for stored, because in deleted if because is why]
        yield why, len(sizes), sum(sizes)


def abort_uploads(periods: Periods, *, now: datetime, dry_run: bool) -> Done:
    """Give up uploads to the outputs bucket that began long ago and never ended."""
    bucket = config().outputs_bucket
    count = storage.abort_uploads(bucket, PREFIX, before=now - periods.orphans, dry_run=dry_run)
    return Why.UNFINISHED, count, 0
