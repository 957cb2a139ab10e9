"""Events already answered: a second hearing finds its row, and does nothing."""

from datetime import datetime

from sqlalchemy import Connection, text

FIRST = text("""
WITH heard AS (
    INSERT INTO inbox (function, source, id) VALUES (:function, :source, :id) ON CONFLICT DO NOTHING RETURNING 1
), told AS (
    UPDATE outbox SET told_at = now() WHERE source = :source AND id = :id AND told_at IS NULL
)
SELECT count(*) FROM heard
""")


def first(tx: Connection, *, function: str, source: str, id: str) -> bool:
    """Whether this function hears this event for the first time.

    Where the event is one of ours, its outbox row is marked in the same breath: it was told.
    """
    return bool(tx.execute(FIRST, {"function": function, "source": source, "id": id}).scalar_one())


USE = text("""
INSERT INTO signature_seen (jti, event_id, expires_at) VALUES (:jti, :event_id, :expires_at)
ON CONFLICT (jti) DO NOTHING
""")
USED_FOR = text("SELECT event_id FROM signature_seen WHERE jti = :jti")


def use_signature(tx: Connection, *, jti: str, event_id: str, expires_at: datetime) -> bool:
    """Whether this signature speaks for this event: it is new, or this very event came before.

    Two statements, because whoever has waited for another's insert sees that row only with the next one's snapshot.
    """
    if tx.execute(USE, {"jti": jti, "event_id": event_id, "expires_at": expires_at}).rowcount:
        return True
    return bool(tx.execute(USED_FOR, {"jti": jti}).scalar_one() == event_id)
