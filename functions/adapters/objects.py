"""Stored pictures: identical bytes once, with a count of the artifacts that need them, deleted when that is none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from functions.adapters import storage
from functions.config import config

RELEASE = text("""
WITH letting_go AS (
    UPDATE generator_artifact SET released_at = :at WHERE id = :artifact_id AND released_at IS NULL RETURNING object_key
)
UPDATE generator_object AS held
SET refs = held.refs - 1, freed_at = CASE WHEN held.refs = 1 THEN CAST(:at AS timestamptz) END
FROM letting_go WHERE held.key = letting_go.object_key
""")


def release(tx: Connection, artifact_id: str, *, at: datetime) -> None:
    """This picture needs its object no more. Letting go twice is letting go once."""
    tx.execute(RELEASE, {"artifact_id": artifact_id, "at": at})


@dataclass(frozen=True, kw_only=True)
class Freed:
    """An object that nobody needs, with its thumbnails' keys."""

    key: str
    size_bytes: int
    thumbnails: Mapping[str, str]

    @property
    def keys(self) -> list[str]:
        return [self.key, *self.thumbnails.values()]


FREED = text("""
SELECT key, size_bytes + thumbnail_bytes AS size_bytes, thumbnails FROM generator_object
WHERE freed_at IS NOT NULL AND deleted_at IS NULL
ORDER BY freed_at LIMIT :limit FOR UPDATE SKIP LOCKED
""")
DELETED = text("UPDATE generator_object SET deleted_at = :at WHERE key = ANY(:keys)")


def delete_freed(tx: Connection, *, limit: int, at: datetime) -> tuple[int, int]:
    """Delete the bytes of freed objects; gives how many objects that was, and their bytes.

    The rows are held meanwhile, so two at once share the work. Killed before the commit, the bytes are gone and the
    rows do not know: the next one deletes again what is gone already, which changes nothing.
    """
    freed = [Freed(**row._mapping) for row in tx.execute(FREED, {"limit": limit})]
    storage.delete(config().outputs_bucket, [key for one in freed for key in one.keys])
    if freed:
        tx.execute(DELETED, {"keys": [one.key for one in freed], "at": at})
    return len(freed), sum(one.size_bytes for one in freed)


WAITING = text("""
SELECT count(*) AS objects, coalesce(sum(size_bytes + thumbnail_bytes), 0)::bigint AS size_bytes FROM generator_object
WHERE freed_at IS NOT NULL AND deleted_at IS NULL
""")


def freed(tx: Connection) -> tuple[int, int]:
    """How many objects wait to be deleted, and their bytes."""
    row = tx.execute(WAITING).one()
    return int(row.objects), int(row.size_bytes)


NEEDED = text("SELECT key FROM generator_object WHERE key = ANY(:keys) AND deleted_at IS NULL")


def known(tx: Connection, keys: Sequence[str]) -> set[str]:
    """Those of these pictures whose bytes are needed, or are deleted by `delete_freed` in its own time."""
    return set(tx.execute(NEEDED, {"keys": list(keys)}).scalars())


BETWEEN = text("""
SELECT key, size_bytes + thumbnail_bytes AS size_bytes FROM generator_object
WHERE key > :after AND (CAST(:until AS text) IS NULL OR key <= :until)
  AND refs > 0 AND missing_at IS NULL AND created_at < :before
ORDER BY key LIMIT :limit
""")


def needed(tx: Connection, *, after: str, until: str | None, before: datetime, limit: int) -> list[tuple[str, int]]:
    """Keys, with bytes, that must be in the store, between these two in the order S3 lists in, from before a moment."""
    values = {"after": after, "until": until, "before": before, "limit": limit}
    return [(row.key, row.size_bytes) for row in tx.execute(BETWEEN, values)]


MISSING = text("UPDATE generator_object SET missing_at = :at WHERE key = :key AND missing_at IS NULL AND refs > 0")


def mark_missing(tx: Connection, key: str, *, at: datetime) -> bool:
    """Write down that the bytes are gone though somebody needs them, so that no new picture relies on them; False when
    that is known or nobody needs them any more."""
    return tx.execute(MISSING, {"key": key, "at": at}).rowcount == 1
