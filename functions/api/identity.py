"""Who asks: the platform's bearer token, or, on one's own machine, whoever DEV_IDENTITY names."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from functions.adapters import identity
from functions.domain.errors import Rejected
from functions.domain.event import Actor
from functions.domain.job import Job

ADMIN = "ADMIN"
_scheme = HTTPBearer(auto_error=False, bearerFormat="JWT", description="A token signed by the platform.")


async def asker(request: Request, _: Annotated[object, Depends(_scheme)]) -> Actor:
    """The user this call speaks for; Rejected when nobody vouches for one."""
    header = request.headers.get("authorization")
    if header is None:
        return identity.on_ones_own_machine()
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Rejected("token_invalid", "the Authorization header must be `Bearer` and a token")
    return identity.bearer(token.strip())


Asker = Annotated[Actor, Depends(asker)]


def may_see(actor: Actor, job: Job) -> bool:
    """Whether this job is the actor's own, or the actor may see all."""
    return actor.user_id == job.user_id or actor.role == ADMIN
