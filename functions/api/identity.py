"""Who asks: the platform's bearer token, or, on one's own machine, whoever DEV_IDENTITY names."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from functions.adapters import identity
from functions.config import config
from functions.domain.errors import Rejected
from functions.domain.event import Actor
from functions.domain.job import Job

ADMIN = "ADMIN"
_scheme = HTTPBearer(auto_error=False, bearerFormat="JWT", description="A token signed by the platform.")


async def asker(request: Request, _: Annotated[object, Depends(_scheme)]) -> Actor:
    """The user this call speaks for; Rejected when nobody vouches for one."""
    header = request.headers.get("authorization")
    if header is None:
        return _dev_identity()
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Rejected("token_invalid", "the Authorization header must be `Bearer` and a token")
    return identity.bearer(token.strip())


def _dev_identity() -> Actor:
    named = config().dev_identity
    if not named:
        raise Rejected("unsigned", "send the platform's token as `Authorization: Bearer <token>`")
    user_id, _, role = named.partition(":")
    return Actor(user_id=user_id, role=role.upper() or "USER")


Asker = Annotated[Actor, Depends(asker)]


def may_see(actor: Actor, job: Job) -> bool:
    """Whether this job is the actor's own, or the actor may see all."""
    return actor.user_id == job.user_id or actor.role == ADMIN
