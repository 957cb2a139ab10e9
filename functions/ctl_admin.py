"""Who gives vsgen's orders, where only an admin may: the one whose token is in ADMIN_TOKEN."""

from functions.adapters import grants, identity
from functions.adapters.grants import Admin
from functions.config import config


def asking() -> Admin:
    """The admin whose word this is, or, on one's own machine, DEV_IDENTITY; Rejected when nobody vouches for one."""
    token = config().admin_token
    actor = identity.bearer(token) if token else identity.on_ones_own_machine()
    return grants.admin(actor, identity.digest(token) if token else "dev-identity")
