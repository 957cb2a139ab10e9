"""The frames ComfyUI sends while a prompt runs.

Frames are a hint, never the judge: one stalled reader elsewhere silences everybody's, and a lost socket says
nothing about the prompt. So a socket that cannot be opened or breaks is no error here: `lost` turns true, and
the caller goes on by asking over HTTP.
"""

import json
import logging
import time
import uuid
from typing import Any, Self

log = logging.getLogger(__name__)

Frame = dict[str, Any]


class Frames:
    """One websocket under a client id of its own; a context manager.

    The id is never used again: ComfyUI forgets a second socket of the same id when the first one closes.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        import websocket

        self.client_id = uuid.uuid4().hex
        self.lost = False
        self._timeout = websocket.WebSocketTimeoutException
        self._broken = (websocket.WebSocketException, OSError)
        try:
            self._socket = websocket.create_connection(
                f"{url.replace('http', 'ws', 1)}/ws?clientId={self.client_id}",
                timeout=timeout_s,
                suppress_origin=True,  # on a loopback host ComfyUI refuses an Origin it does not expect
                skip_utf8_validation=True,  # done in plain Python, byte by byte
                http_no_proxy=["*"],
            )
        except self._broken as refused:
            self._lose(refused)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.lost:
            try:
                self._socket.send_close()
            except self._broken:
                log.debug("ComfyUI's socket broke while it was closed")
            self._socket.shutdown()  # type: ignore[no-untyped-call]

    def next(self, prompt_id: str, *, wait_s: float) -> Frame | None:
        """The next frame about this prompt; None when `wait_s` seconds passed without one.

        Frames of other prompts, previews and `progress_state` (which repeats every node that has started, and
        so grows with the square of the graph) are passed over without being parsed.
        """
        until = time.monotonic() + wait_s
        while (left_s := until - time.monotonic()) > 0:
            if self.lost:
                time.sleep(left_s)
                return None
            try:
                self._socket.settimeout(left_s)
                message = self._socket.recv()
            except self._timeout:
                return None
            except self._broken as broken:
                self._lose(broken)
                return None
            if not isinstance(message, str) or not message or "progress_state" in message[:32]:
                continue
            frame = _parse(message)
            if frame and frame["data"].get("prompt_id") == prompt_id:
                return frame
        return None

    def _lose(self, cause: Exception) -> None:
        self.lost = True
        log.warning("no frames from ComfyUI, its history is polled instead: %s", type(cause).__name__)


def _parse(message: str) -> Frame | None:
    try:
        frame = json.loads(message)
    except ValueError:
        return None
    sound = isinstance(frame, dict) and isinstance(frame.get("data"), dict) and "type" in frame
    return frame if sound else None
