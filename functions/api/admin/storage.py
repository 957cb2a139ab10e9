"""Storage: how much is kept, for whom and since when, and what retention did."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from functions.adapters import cleanups, postgres, usage
from functions.api.identity import Administrator
from functions.api.problem import documented

router = APIRouter(prefix="/v1/admin/storage", tags=["admin"])


class _View(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class ShareView(_View):
    """Pictures of one kind, and the bytes they would have each for itself."""

    name: str
    pictures: int
    bytes: int


class StoredView(_View):
    """What really lies in the outputs bucket, thumbnails included; `saved_bytes` is what identical pictures share,
    `freed_*` waits to be deleted, `missing` counts objects that are gone though somebody needs them."""

    objects: int
    bytes: int
    saved_bytes: int
    freed_objects: int
    freed_bytes: int
    missing: int


class DidView(_View):
    """What was done, why, how often and with how many bytes."""

    did: str
    why: str
    count: int
    bytes: int


class RunView(_View):
    """One run of retention. Without an end it still runs, or was killed."""

    number: int
    by: str
    dry_run: bool
    began_at: datetime
    ended_at: datetime | None
    done: list[DidView]
    problem: str | None


class StorageReport(BaseModel):
    """Storage by where pictures stand, by user (those with most) and by age, and the last runs of retention."""

    stored: StoredView
    by_standing: list[ShareView]
    by_user: list[ShareView]
    by_age: list[ShareView]
    runs: list[RunView]


@router.get("", responses=documented(403))
def storage(
    actor: Administrator,
    users: Annotated[int, Query(ge=1, le=1000, description="how many users at the most")] = 20,
) -> StorageReport:
    """How much is stored. It counts every row: ask now and then."""
    with postgres.transaction() as tx:
        return StorageReport(
            stored=StoredView.model_validate(usage.stored(tx)),
            by_standing=[ShareView.model_validate(one) for one in usage.by_standing(tx)],
            by_user=[ShareView.model_validate(one) for one in usage.by_user(tx, limit=users)],
            by_age=[ShareView.model_validate(one) for one in usage.by_age(tx, now=datetime.now(UTC))],
            runs=[RunView.model_validate(one) for one in cleanups.latest(tx, limit=10)],
        )
