"""Who asks: the platform's bearer token, or, on one's own machine, whoever DEV_IDENTITY names."""

from typing import Annotated, Protocol

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from functions.adapters import identity
from functions.domain.errors import Rejected
from functions.domain.event import Actor

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


class Owned(Protocol):
    """A job, a picture: what is somebody's."""

    @property
    def user_id(self) -> str: ...


def may_see(actor: Actor, owned: Owned) -> bool:
    """Whether this is the actor's own, or the actor may see all."""
    return actor.user_id == owned.user_id or actor.role == ADMIN


def administrator(actor: Asker) -> Actor:
    """The asker, who is an administrator; Rejected when not."""
    if actor.role != ADMIN:
        raise Rejected("role_not_allowed", f"{actor.role} may not see this: an administrator may")
    return actor


Administrator = Annotated[Actor, Depends(administrator)]
