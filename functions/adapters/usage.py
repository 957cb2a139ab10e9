"""How much is stored: by where a picture stands, by user and by age. It reads every row, so it is for people, now and
then, and not for a clock."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text


@dataclass(frozen=True, kw_only=True)
class Share:
    """Pictures of one kind, and the bytes they would have each for itself."""

    name: str
    pictures: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What really lies in the outputs bucket, thumbnails included; `saved_bytes` is what identical pictures share,
    `freed_*` what waits to be deleted, `missing` how many objects are gone that somebody needs."""

    objects: int
    bytes: int
    saved_bytes: int
    freed_objects: int
    freed_bytes: int
    missing: int


STORED = text("""
SELECT count(*) FILTER (WHERE refs > 0) AS objects,
    coalesce(sum(size_bytes + thumbnail_bytes) FILTER (WHERE refs > 0), 0)::bigint AS bytes,
    coalesce(sum((size_bytes + thumbnail_bytes) * (refs - 1)) FILTER (WHERE refs > 1), 0)::bigint AS saved_bytes,
    count(*) FILTER (WHERE refs = 0) AS freed_objects,
    coalesce(sum(size_bytes + thumbnail_bytes) FILTER (WHERE refs = 0), 0)::bigint AS freed_bytes,
    count(*) FILTER (WHERE refs > 0 AND missing_at IS NOT NULL) AS missing
FROM generator_object WHERE deleted_at IS NULL
""")


def stored(tx: Connection) -> Stored:
    """What lies in the outputs bucket, as the rows know it."""
    return Stored(**tx.execute(STORED).one()._mapping)


BY_STANDING = text("""
SELECT CASE WHEN purged_at IS NOT NULL THEN 'purged'
            WHEN decision = 'accept' AND released_at IS NOT NULL THEN 'moved'
            ELSE coalesce(CASE decision WHEN 'accept' THEN 'accepted' WHEN 'discard' THEN 'discarded'
                          WHEN 'deliver' THEN 'delivered' END, 'undecided') END AS name,
       count(*) AS pictures, sum(size_bytes)::bigint AS bytes
FROM generator_artifact GROUP BY 1 ORDER BY 3 DESC
""")
BY_USER = text("""
SELECT user_id AS name, count(*) AS pictures, sum(size_bytes)::bigint AS bytes
FROM generator_artifact WHERE released_at IS NULL GROUP BY user_id ORDER BY 3 DESC, 1 LIMIT :limit
""")
BY_AGE = text("""
SELECT (ARRAY['up to a day', 'up to a week', 'up to a month', 'up to a quarter', 'older'])[1 + bucket] AS name,
       pictures, bytes
FROM (
    SELECT width_bucket(extract(epoch FROM CAST(:now AS timestamptz) - created_at) / 86400, ARRAY[1, 7, 30, 90])
               AS bucket, count(*) AS pictures, sum(size_bytes)::bigint AS bytes
    FROM generator_artifact WHERE released_at IS NULL GROUP BY 1
) AS by_age ORDER BY bucket
""")


def by_standing(tx: Connection) -> list[Share]:
    """By where a picture stands; those purged, or moved to their collection, take no room here any more."""
    return [Share(**row._mapping) for row in tx.execute(BY_STANDING)]


def by_user(tx: Connection, *, limit: int) -> list[Share]:
    """The users whose pictures take the most room."""
    return [Share(**row._mapping) for row in tx.execute(BY_USER, {"limit": limit})]


def by_age(tx: Connection, *, now: datetime) -> list[Share]:
    """By how long ago a picture was rendered, youngest first."""
    return [Share(**row._mapping) for row in tx.execute(BY_AGE, {"now": now})]
