"""How the GPU does while a picture is painted: asked of the package `visionsuit_gpu` in our ComfyUI image.

ComfyUI itself does not know. Where the package is not there, nothing is known and nothing fails.
"""

import logging
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from functions.adapters.comfyui_http import Http
from functions.adapters.comfyui_watch import LOOK_TIMEOUT_S
from functions.domain.errors import RenderFailed

log = logging.getLogger(__name__)
PATH = "/visionsuit/gpu"
EVERY_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """What was seen of a GPU; what it does not tell is None.

    utilisation_percent: on average. temperature_c: at the most. errors: critical events, and uncorrectable errors of
    its memory, that its driver knows of.
    """

    uuid: str | None = None
    utilisation_percent: float | None = None
    temperature_c: int | None = None
    errors: int | None = None


class GpuWatch:
    """A look every second from a thread of its own, from entering to leaving; then `seen`."""

    def __init__(self, url: str) -> None:
        self._http = Http(url, timeout_s=LOOK_TIMEOUT_S)
        self._looks: list[dict[str, Any]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="gpu-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._http.close()

    def seen(self) -> Gpu:
        """What all looks together come to."""
        if not self._looks:
            return Gpu()
        shares, degrees = self._all("utilisation_percent"), self._all("temperature_c")
        last = self._looks[-1]
        counts = [len(last.get("xid_errors") or ()), last.get("ecc_errors")]
        known = any(last.get(name) is not None for name in ("xid_errors", "ecc_errors"))
        return Gpu(
            uuid=str(last["uuid"]) if last.get("uuid") else None,
            utilisation_percent=round(sum(shares) / len(shares), 1) if shares else None,
            temperature_c=max(degrees, default=None),
            errors=sum(count or 0 for count in counts) if known else None,
        )

    def _all(self, name: str) -> list[int]:
        return [look[name] for look in self._looks if look.get(name) is not None]

    def _watch(self) -> None:
        """Look until it is over, and once more if that came before the first look."""
        going = True
        while going and (not self._over.wait(EVERY_S) or not self._looks):
            going = self._look()

    def _look(self) -> bool:
        """Look once; False when there is nothing to look at."""
        try:
            answer = self._http.call("GET", PATH)
            if answer.status_code == 404:
                return False
            self._looks.append(self._http.content(self._http.accepted(answer)))
        except RenderFailed as silent:
            log.debug("the GPU's state is not known: %s", silent)
        return not self._over.is_set()
