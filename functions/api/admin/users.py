"""Users that are blocked: what they have waiting is held, and what they ask for is refused."""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from fastapi import APIRouter
from pydantic import BaseModel

from functions import operate
from functions.api import body
from functions.api.admin.role import Admin, Why, by
from functions.api.problem import documented
from functions.domain.errors import Rejected
from functions.domain.request import CLOSED

router = APIRouter(prefix="/v1/admin/users", tags=["admin"])


class BlockView(BaseModel):
    """Who is blocked, by whom, since when and why."""

    user_id: str
    reason: str
    by: str
    at: datetime


class Blocked(BaseModel):
    """Every user that is blocked."""

    blocked: list[BlockView]


@dataclass(frozen=True, kw_only=True)
class BlockRequest:
    """Block a user."""

    __pydantic_config__: ClassVar = CLOSED
    reason: Why


@router.get("", responses=documented(403))
def listing(actor: Admin) -> Blocked:
    """Every user that is blocked, and why."""
    return Blocked(blocked=[BlockView(**vars(one)) for one in operate.blocked()])


@router.put(
    "/{user_id:path}/block",
    openapi_extra=body.documented(BlockRequest),
    responses=documented(400, 403, 413, 415, 422),
)
def block(user_id: str, actor: Admin, raw: body.Raw) -> Blocked:
    """Hold what this user has waiting, and refuse what they ask for. What runs goes on."""
    asked = body.parse(BlockRequest, raw)
    operate.block(_known(user_id), by=by(actor), reason=asked.reason)
    return listing(actor)


@router.delete("/{user_id:path}/block", responses=documented(403, 422))
def unblock(user_id: str, actor: Admin) -> Blocked:
    """Let this user's jobs wait like anybody's, at the places they had."""
    operate.unblock(_known(user_id), by=by(actor))
    return listing(actor)


def _known(user_id: str) -> str:
    """An id that a user can have; Rejected when none could."""
    if not 1 <= len(user_id) <= 128 or not user_id.isprintable():
        raise Rejected("invalid_request", "a user's id has 1 to 128 printable characters", field="user_id")
    return user_id
