"""Who asks, where only admins may."""

from typing import Annotated

from fastapi import Depends, Request

from functions.adapters import grants, identity
from functions.adapters.grants import Admin
from functions.api.identity import Asker


async def admin(request: Request, actor: Asker) -> Admin:
    """The admin this call speaks for; Rejected when it speaks for anybody else."""
    token = request.headers.get("authorization", "").partition(" ")[2].strip()
    return grants.admin(actor, identity.digest(token) if token else "dev-identity")


AsAdmin = Annotated[Admin, Depends(admin)]
