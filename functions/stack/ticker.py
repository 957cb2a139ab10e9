"""The clock of the local stack: tells the sweep function the time, as Knative's PingSource does each minute.

The event is the one a PingSource sends (`dev.knative.sources.ping`, binary mode); only its period is our own.
"""

import logging
import threading
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

log = logging.getLogger(__name__)

_STRAIGHT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""A proxy for the world is none for loopback."""


@dataclass(frozen=True, kw_only=True)
class PingSource:
    """What the ticker needs of a PingSource."""

    name: str
    content_type: str
    data: str


def read(path: Path) -> PingSource:
    """The PingSource in a file of manifests."""
    documents = yaml.safe_load_all(path.read_text())
    found: dict[str, Any] = next(one for one in documents if one and one["kind"] == "PingSource")
    spec = found["spec"]
    return PingSource(name=found["metadata"]["name"], content_type=spec["contentType"], data=spec["data"])


class Ticker:
    """Posts the event every period; call `poll` more often than that.

    It posts from a thread of its own, so a slow sweep holds nobody up, and skips a tick while one is under way.
    """

    def __init__(self, source: PingSource, url: str, *, every_s: float = 1.0, timeout_s: float = 30.0) -> None:
        self._source = source
        self._url = url
        self._every_s = every_s
        self._timeout_s = timeout_s
        self._next_s = time.monotonic()
        self._posting: threading.Thread | None = None
        self._heard = True

    def poll(self) -> None:
        now_s = time.monotonic()
        if now_s < self._next_s or (self._posting is not None and self._posting.is_alive()):
            return
        self._next_s = now_s + self._every_s
        self._posting = threading.Thread(target=self._post, name="ticker", daemon=True)
        self._posting.start()

    def stop(self) -> None:
        """Nothing is kept: a tick under way may end by itself."""

    def _post(self) -> None:
        request = urllib.request.Request(  # noqa: S310  the URL is our own function's
            self._url,
            data=self._source.data.encode(),
            headers={
                "content-type": self._source.content_type,
                "ce-specversion": "1.0",
                "ce-type": "dev.knative.sources.ping",
                "ce-source": f"/apis/v1/namespaces/default/pingsources/{self._source.name}",
                "ce-id": str(uuid.uuid4()),
                "ce-time": datetime.now(UTC).isoformat(),
            },
        )
        try:
            with _STRAIGHT.open(request, timeout=self._timeout_s):
                self._heard = True
        except (urllib.error.URLError, OSError) as error:
            if self._heard:
                log.warning("%s did not take a tick: %s", self._source.name, error)
            self._heard = False
