"""Quotes: prices that were named, and stand for a while for the same request of the same user."""

import hashlib
import json
import uuid
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from functions.adapters import postgres
from functions.domain.errors import Rejected
from functions.domain.price import Quote
from functions.domain.request import JobRequest


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A quote as it may be referred to."""

    id: str
    expires_at: datetime


KEEP = text("""
INSERT INTO generator_quote (id, user_id, request_sha256, version, render, loras, boost, expires_at)
VALUES (:id, :user_id, :request_sha256, :version, :render, :loras, :boost, :expires_at)
""")


def keep(tx: Connection, asked: JobRequest, quote: Quote, *, user_id: str, now: datetime, valid_s: float) -> Kept:
    """Let this price stand for this user's request until `valid_s` seconds from now."""
    kept = Kept(id=f"quote-{uuid.uuid4().hex}", expires_at=now + timedelta(seconds=valid_s))
    tx.execute(KEEP, asdict(quote) | asdict(kept) | {"user_id": user_id, "request_sha256": _sha256(asked)})
    return kept


FIND = text("""
SELECT request_sha256, version, render, loras, boost, expires_at FROM generator_quote
WHERE id = :id AND user_id = :user_id
""")


def find(tx: Connection, asked: JobRequest, *, user_id: str, now: datetime) -> Quote:
    """The price that the request refers to. Rejected when it was never named to this user, for another request, or too
    long ago."""
    row = tx.execute(FIND, {"id": asked.quote_id, "user_id": user_id}).one_or_none()
    if row is None:
        raise Rejected("unknown_quote", "there is no such quote of yours: ask for one first", field="quote_id")
    if row.request_sha256 != _sha256(asked):
        raise Rejected("quote_mismatch", "the quote was for another request: ask for one for this", field="quote_id")
    if row.expires_at < now:
        raise Rejected("quote_expired", f"the quote stood until {row.expires_at:%H:%M:%S} UTC", field="quote_id")
    return Quote(version=row.version, render=row.render, loras=row.loras, boost=row.boost)


FORGET = text("DELETE FROM generator_quote WHERE expires_at < now()")


def forget() -> int:
    """Drop what no longer stands; gives how many quotes that was."""
    with postgres.transaction() as tx:
        return tx.execute(FORGET).rowcount


def _sha256(asked: JobRequest) -> str:
    """What tells one request from another: all that is asked for, but not the quote it refers to."""
    said = {name: value for name, value in asdict(asked).items() if name != "quote_id"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
