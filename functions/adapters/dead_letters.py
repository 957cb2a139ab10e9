"""Dead letters: events the Broker could not deliver, kept in Postgres, and posted to it again when an operator says so.

A letter is known by source, id and destination: one event that two functions cannot take is two letters, and one that
comes back is the letter it was, counted up. It is open until it was replayed or dropped; a replayed one that comes
back is open again, a dropped one stays dropped.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Row, text

from functions.adapters.broker import PLAIN, TIMEOUT_S
from functions.config import config
from functions.domain.errors import Unavailable

ERROR_CHARACTERS = 2048


@dataclass(frozen=True, kw_only=True)
class Letter:
    """An event as the dead letter sink got it. `attributes` are the event's own; destination and error are the
    Broker's word on why it is here. `data` is whatever bytes it carried, and may hold a prompt."""

    attributes: Mapping[str, str]
    data: bytes
    destination: str = ""
    error_code: str = ""
    error_data: str = ""

    @property
    def key(self) -> str:
        """One short key, however long its parts are: an index holds no more than 2,704 bytes."""
        named = [self.attributes["source"], self.attributes["id"], self.destination]
        return hashlib.sha256(json.dumps(named).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A dead letter without what may hold a prompt: what a list shows."""

    number: int
    source: str
    id: str
    type: str
    subject: str
    destination: str
    error_code: str
    first_at: datetime
    last_at: datetime
    times: int
    replayed_at: datetime | None
    dropped_at: datetime | None

    @property
    def standing(self) -> str:
        return "dropped" if self.dropped_at else "replayed" if self.replayed_at else "open"


@dataclass(frozen=True, kw_only=True)
class Whole(Kept):
    """A dead letter with all it carried; `data` is None once it was dropped."""

    error_data: str
    attributes: Mapping[str, str]
    data: bytes | None


KEEP = text("""
INSERT INTO dead_letter (key, source, id, type, subject, destination, error_code, error_data, attributes, data)
VALUES (:key, :source, :id, :type, :subject, :destination, :error_code, :error_data, CAST(:attributes AS jsonb), :data)
ON CONFLICT (key) DO UPDATE SET times = dead_letter.times + 1, last_at = now(), replayed_at = NULL,
    error_code = :error_code, error_data = CASE WHEN dead_letter.dropped_at IS NULL THEN :error_data ELSE '' END
RETURNING number
""")


def keep(tx: Connection, letter: Letter) -> int:
    """Keep a letter, or count it up when it was here before; gives its number."""
    plain = {name: _storable(value) for name, value in letter.attributes.items()}
    row = {
        "key": letter.key,
        "source": plain["source"],
        "id": plain["id"],
        "type": plain["type"],
        "subject": plain.get("subject", ""),
        "destination": _storable(letter.destination),
        "error_code": _storable(letter.error_code)[:64],
        "error_data": _storable(letter.error_data)[:ERROR_CHARACTERS],
        "attributes": json.dumps(plain),
        "data": letter.data,
    }
    return int(tx.execute(KEEP, row).scalar_one())


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which letters: `type` whole or only the part that tells events apart (`job.submitted`); any part of the
    destination; last heard of by `until`; `settled`: replayed and dropped ones as well."""

    type: str | None = None
    destination: str | None = None
    until: datetime | None = None
    settled: bool = False


SHOWN = ", ".join(field.name for field in fields(Kept))
FOUND = text(f"""
SELECT {SHOWN} FROM dead_letter
WHERE number > :after AND (:settled OR (replayed_at IS NULL AND dropped_at IS NULL))
  AND (CAST(:type AS text) IS NULL OR type = :type OR type = 'visionsuit.generator.' || :type || '.v1')
  AND (CAST(:destination AS text) IS NULL OR position(:destination IN destination) > 0)
  AND (CAST(:until AS timestamptz) IS NULL OR last_at <= :until)
ORDER BY number LIMIT :limit
""")  # noqa: S608


def find(tx: Connection, wanted: Wanted, *, after: int = 0, limit: int) -> list[Kept]:
    """Such letters in the order they came, from just above the number `after`."""
    rows = tx.execute(FOUND, vars(wanted) | {"after": after, "limit": limit})
    return [Kept(**row._mapping) for row in rows]


GET = text(f"SELECT {SHOWN}, error_data, attributes, data FROM dead_letter WHERE number = :number")  # noqa: S608


def get(tx: Connection, number: int) -> Whole | None:
    """One letter with all it carried."""
    row = tx.execute(GET, {"number": number}).one_or_none()
    return None if row is None else _whole(row)


REPLAYED = text("""
UPDATE dead_letter SET replayed_at = now() WHERE number = :number AND times = :times AND dropped_at IS NULL
""")


def mark_replayed(tx: Connection, letter: Kept) -> None:
    """Write down that it was posted again, unless it has come back in the meantime and waits for somebody anew."""
    tx.execute(REPLAYED, {"number": letter.number, "times": letter.times})


DROP = text("""
UPDATE dead_letter SET dropped_at = now(), data = NULL, attributes = '{}', error_data = ''
WHERE number = :number AND dropped_at IS NULL
""")


def drop(tx: Connection, number: int) -> bool:
    """Empty a letter for good, so that only the record of it stays; False when there is none left to empty."""
    return tx.execute(DROP, {"number": number}).rowcount == 1


def post_again(letter: Whole) -> None:
    """Give the event to the Broker as it first was; Unavailable when it does not take it."""
    import requests

    attributes = dict(letter.attributes)
    content_type = attributes.pop("datacontenttype", "application/json")
    headers = {f"ce-{name}": quote(value, safe=PLAIN) for name, value in attributes.items()}
    try:
        answer = requests.post(
            config().need("k_sink"),
            data=letter.data,
            headers=headers | {"content-type": content_type},
            timeout=TIMEOUT_S,
        )
    except requests.RequestException as error:
        raise Unavailable(f"the Broker cannot be reached: {error.__class__.__name__}") from error
    if not answer.ok:
        raise Unavailable(f"the Broker answered {answer.status_code} to letter {letter.number}")


def _whole(row: Row[Any]) -> Whole:
    values = dict(row._mapping)
    return Whole(**values | {"data": None if values["data"] is None else bytes(values["data"])})


def _storable(value: str) -> str:
    """Text that Postgres can keep: it knows no NUL, and UTF-8 no lone surrogate."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
