"""Who may come in here: the platform's administrators, and nobody else."""

from typing import Annotated

from annotated_types import Len, Predicate
from fastapi import Depends

from functions.api.identity import ADMIN, Asker
from functions.domain.errors import Rejected
from functions.domain.event import Actor
from functions.domain.text import storable

#: Why something was done: asked for wherever it hurts somebody.
Why = Annotated[str, Len(1, 500), Predicate(storable)]


async def admin(actor: Asker) -> Actor:
    """The administrator this call speaks for."""
    if actor.role != ADMIN:
        raise Rejected("role_not_allowed", "this is for administrators")
    return actor


Admin = Annotated[Actor, Depends(admin)]


def by(actor: Actor) -> str:
    """How an act of theirs is signed in the record."""
    return f"user:{actor.user_id}"
