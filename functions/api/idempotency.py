"""Idempotency-Key: a request that is sent again under its key gets its first answer, and does nothing twice."""

import hashlib
import json
import uuid
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import Header
from sqlalchemy import Connection

from functions.adapters import inbox
from functions.domain.errors import Rejected
from functions.domain.event import Actor
from functions.domain.request import JobRequest

NAMESPACE = uuid.UUID("6f1b0c3e-6c5e-5f0a-9a4e-3f6b7d2c8e11")
KEPT = timedelta(days=30)

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=128,
        description="the same request again under its key gets its first answer again; another one is refused",
    ),
]


def job_id(actor: Actor, key: str | None) -> str:
    """The id of the job that this key asks for, for this user always the same; without a key a new one."""
    return str(uuid.uuid5(NAMESPACE, f"{actor.user_id}\n{key}") if key else uuid.uuid4())


def grant_id(user_id: str, key: str | None) -> str:
    """The id of the grant that this admin asks for under this key, always the same; without a key a new one."""
    named = uuid.uuid5(NAMESPACE, f"grant\n{user_id}\n{key}") if key else uuid.uuid4()
    return f"grant-{named.hex[:16]}"


def hold(tx: Connection, job_id: str, asked: JobRequest) -> None:
    """Bind the key to what was asked, however it was spelt; Rejected when it is bound to something else.

    A key is to a request what a signature's nonce is to an event: good for one. The same table keeps both.
    """
    sha256 = hashlib.sha256(json.dumps(asdict(asked), sort_keys=True).encode()).hexdigest()
    kept_until = datetime.now(UTC) + KEPT
    if not inbox.use_signature(tx, jti=f"idempotency:{job_id}", event_id=sha256, expires_at=kept_until):
        raise Rejected("idempotency_key_reused", "this Idempotency-Key was used for another request: take a new one")
