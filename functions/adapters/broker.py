"""The Broker: events are posted to it as CloudEvents 1.0 in binary mode, over one kept-alive connection a thread."""

import threading
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from functions.config import config
from functions.domain.errors import Unavailable

if TYPE_CHECKING:
    from requests import Session

TIMEOUT_S = 10
#: Header values keep printable ASCII but for space, quote and percent; all else travels percent-encoded
#: (CloudEvents HTTP protocol binding 1.0.2, section 3.1.3.2).
PLAIN = "!#$&'()*+,-./:;<=>?@[\\]^_`{|}~"


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """A CloudEvent's context attributes, and its data as JSON bytes."""

    id: str
    source: str
    type: str
    subject: str
    time: datetime
    data: bytes


class _Connections(threading.local):
    session: "Session | None" = None


_connections = _Connections()


def post(letter: Envelope) -> None:
    """Give an event to the Broker; Unavailable when it does not take it, and somebody must come back with it."""
    import requests

    if _connections.session is None:
        _connections.session = requests.Session()
    try:
        answer = _connections.session.post(
            config().need("k_sink"), data=letter.data, headers=headers(letter), timeout=TIMEOUT_S
        )
    except requests.RequestException as error:
        raise Unavailable(f"the Broker cannot be reached: {error.__class__.__name__}") from error
    if not answer.ok:
        raise Unavailable(f"the Broker answered {answer.status_code}")


def headers(letter: Envelope) -> dict[str, str]:
    """The event's attributes as HTTP headers."""
    attributes = {
        "specversion": "1.0",
        "id": letter.id,
        "source": letter.source,
        "type": letter.type,
        "subject": letter.subject,
        "time": letter.time.isoformat().replace("+00:00", "Z"),
    }
    encoded = {f"ce-{name}": quote(value, safe=PLAIN) for name, value in attributes.items()}
    return encoded | {"content-type": "application/json"}
