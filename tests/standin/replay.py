"""Play a recording's requests against a server, and put what it answered into a form that can be compared.

An action of the recording (request, socket opened, socket closed) is taken once every socket has received the frames
it had received in the recording at that point; so the order is kept and nothing is timed. What differs from run to run
is replaced on both sides: ids made by the server, timestamps, counters in file names, sizes of memory.
"""

import base64
import json
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import websocket

TRACES = Path(__file__).parent / "traces"
UUID = re.compile(r"\b[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b")
COUNTER = re.compile(r"_\d{5,}_\.png")
TEMPORARY = re.compile(r"ComfyUI_temp_[a-z]{5}_")
NUMBERS = {"timestamp", "ram_total", "ram_free", "vram_total", "vram_free", "torch_vram_total", "torch_vram_free"}
NUMBERS |= {"number", "modified", "created", "size"}
TEXTS = {"python_version", "pytorch_version"}
SETS = {"executed", "current_outputs"}
OTHER_MODELS = "COMFYUI_URL" in os.environ  # a server of the user's own lists other model files than the recordings
PATIENCE_S = 120 if OTHER_MODELS else 15  # it may read a large checkpoint first


def load(name: str) -> dict[str, Any]:
    """A recording, its long waits shortened.

    Where a running node is interrupted its steps stay long, so that the interrupt falls into the step it fell into.
    """
    text = next(TRACES.glob(f"{name}-*.json")).read_text()
    delay = 0.5 if '"path": "/interrupt"' in text else 0.05
    text = re.sub(r'"delay": [\d.]+', f'"delay": {delay}', text)
    text = re.sub(r'"seconds": [\d.]+', '"seconds": 0.3', text)
    trace: dict[str, Any] = json.loads(text)
    return trace


def plain(value: Any, key: str = "") -> Any:
    """A value with everything replaced that may differ between two runs."""
    match value:
        case dict():
            if key == "current_inputs":
                return sorted(value)
            if OTHER_MODELS and value.get("input_name") in {"ckpt_name", "lora_name"}:
                value = value | {"input_config": "a list of files"}
            return {_text(name): plain(item, name) for name, item in value.items()}
        case list():
            if key == "traceback":
                return bool(value) and all(isinstance(line, str) for line in value)
            if key == "argv":
                return "argv"
            if key in SETS:
                return sorted(value)
            if len(value) == 5 and isinstance(value[0], int | float) and isinstance(value[4], list):
                return [type(value[0]).__name__, *(plain(item) for item in value[1:4]), sorted(value[4])]
            items = [plain(item) for item in value]
            return sorted(items, key=json.dumps) if key == "errors" else items
        case bool() | None:
            return value
        case int() | float():
            return "number" if key in NUMBERS else value
        case str():
            return key if key in TEXTS else _text(value, paths=value.startswith("/") or key == "exception_message")
    return value


def _text(value: str, *, paths: bool = False) -> str:
    value = TEMPORARY.sub("ComfyUI_temp_*_", COUNTER.sub("_#_.png", UUID.sub("*", value)))
    if OTHER_MODELS:
        value = re.sub(r"_name: (.*) not in (\[.*\]|\(list of length \d+\))", r"_name: \1 not in [...]", value)
    # a path ends where the recording's and ours agree: at the folders every ComfyUI has
    return re.sub(r"/\S*?(?=/(models|output|custom_nodes)\b)", "*", value) if paths else value


class Socket:
    """One websocket and the frames it has received."""

    def __init__(self, url: str, path: str) -> None:
        parts = urlsplit(url)
        self._socket = websocket.create_connection(f"ws://{parts.netloc}{path}", timeout=PATIENCE_S)
        self._arrived = threading.Condition()
        self.frames: list[Any] = []
        self.lost = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                kind, data = self._socket.recv_data()
            except (websocket.WebSocketException, OSError):
                kind, data = None, b""
            with self._arrived:
                if kind == websocket.ABNF.OPCODE_TEXT:
                    self.frames.append(json.loads(data))
                elif kind == websocket.ABNF.OPCODE_BINARY:
                    self.frames.append(data)
                else:
                    self.lost = True
                self._arrived.notify_all()
            if self.lost:
                return

    def send(self, text: str) -> None:
        self._socket.send(text)

    def close(self) -> None:
        self._socket.close()

    def wait(self, count: int) -> bool:
        """Whether so many frames have come."""
        return self.until(lambda frames: len(frames) >= count)

    def until(self, enough: Callable[[list[Any]], bool]) -> bool:
        """Whether the frames became enough before patience ran out or the socket was lost."""
        with self._arrived:
            return self._arrived.wait_for(lambda: enough(self.frames) or self.lost, PATIENCE_S) and enough(self.frames)

    def wait_lost(self) -> bool:
        with self._arrived:
            return self._arrived.wait_for(lambda: self.lost, PATIENCE_S)


def told(frame: Any) -> Any:
    """A frame as it can be compared: parsed JSON, or the event, format and metadata of a binary one."""
    if isinstance(frame, dict):
        return plain(frame)
    event = int.from_bytes(frame[:4], "big")
    if event == 4:
        length = int.from_bytes(frame[4:8], "big")
        return ["binary", 4, plain(json.loads(frame[8 : 8 + length]))]
    return ["binary", event, int.from_bytes(frame[4:8], "big")]


def recorded(event: dict[str, Any]) -> Any:
    """A recorded frame in the same form."""
    if "json" in event:
        return plain(event["json"])
    header = event["binary"]["header"]
    return ["binary", header["event"], plain(header["metadata"]) if header["event"] == 4 else header["format"]]


class Replay:
    """One recording, played once.

    substitute maps the recording's model names to the server's; previews: whether the server sends the pictures of
    unfinished work, as the recorded one did.
    """

    def __init__(
        self,
        trace: dict[str, Any],
        url: str,
        *,
        on_event: Callable[[dict[str, Any]], None] = lambda _: None,
        substitute: dict[str, str] | None = None,
        previews: bool = True,
    ) -> None:
        text = json.dumps(trace)
        for ours, theirs in (substitute or {}).items():
            text = text.replace(ours, theirs)
        self.events: list[dict[str, Any]] = [e for e in json.loads(text)["events"] if previews or "binary" not in e]
        self.url, self.on_event = url, on_event
        self.sockets: dict[str, Socket] = {}
        self.answers: list[tuple[dict[str, Any], requests.Response | None]] = []
        self._ids: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def play(self) -> "Replay":
        """Take every action; then wait for the frames that are still owed."""
        for event in sorted(self.events, key=lambda event: event["t"]):
            if event["kind"] == "ws_recv" or event["kind"] == "object_info_subset":
                continue
            self._await_frames(before=event["t"])
            self.on_event(event)
            match event["kind"]:
                case "ws_open":
                    self.sockets[event["client"]] = Socket(self.url, event["path"])
                case "ws_send":
                    self.sockets[event["client"]].send(event["text"])
                case "ws_close_by_us":
                    self._await_frames(before=float("inf"), client=event["client"])
                    self.sockets[event["client"]].close()
                case "http":
                    answer = self._ask(event["request"])
                    for _ in range(100):
                        if not too_early(event, answer):
                            break
                        time.sleep(0.01)
                        answer = self._ask(event["request"])
                    self.answers.append((event, answer))
                    self._learn(event, answer)
        self._await_frames(before=float("inf"))
        time.sleep(0.02)  # a frame too many would come about now
        return self

    def expected(self, client: str) -> list[Any]:
        """The frames a socket received in the recording."""
        return [
            recorded(event)
            for event in self.events
            if event["kind"] == "ws_recv" and event["client"] == client and "close" not in event
        ]

    def received(self, client: str) -> list[Any]:
        """The frames it received now."""
        return [told(frame) for frame in self.sockets[client].frames]

    def _await_frames(self, *, before: float, client: str | None = None) -> None:
        for name, connection in self.sockets.items():
            owed = sum(
                event["kind"] == "ws_recv" and event["client"] == name and "close" not in event and event["t"] < before
                for event in self.events
            )
            if client in (None, name):
                connection.wait(owed)

    def _learn(self, event: dict[str, Any], answer: requests.Response | None) -> None:
        """Ids and file names the server chose, to be used where the recording used its own."""
        if answer is None or "json" not in event.get("response", {}):
            return
        was = event["response"]["json"]
        if isinstance(was, dict) and "prompt_id" in was and answer.ok:
            self._ids[was["prompt_id"]] = answer.json()["prompt_id"]
        for name, now in zip(COUNTED.findall(json.dumps(was)), COUNTED.findall(answer.text), strict=False):
            self._names[name] = now

    def _ask(self, request: dict[str, Any]) -> requests.Response | None:
        path, options = request["path"], {}
        for was, now in (self._ids | self._names).items():
            path = path.replace(was, now)
        if "json" in request:
            options["json"] = request["json"]
        elif "body_text" in request:
            options["data"] = request["body_text"]
        elif "multipart" in request:
            parts = request["multipart"]
            options["data"] = parts["fields"]
            options["files"] = {
                field: (file["filename"], _bytes(file), file["content_type"]) for field, file in parts["files"].items()
            }
        try:
            asked = requests.Request(request["method"], self.url, headers=request.get("headers"), **options).prepare()
            asked.url = self.url + path  # as recorded: requests would tidy the dots away
            with requests.Session() as session:
                return session.send(asked, timeout=PATIENCE_S)
        except requests.ConnectionError:
            return None


def too_early(event: dict[str, Any], answer: requests.Response | None) -> bool:
    """Whether history is empty where an entry was recorded.

    `execution_success` is told a moment before the entry is there: asked upon it, the recorded server had none in 9 of
    100 tries (51).
    """
    entry = event["request"]["path"].startswith("/history/") and event.get("response", {}).get("json")
    return bool(entry) and answer is not None and answer.text == "{}"


COUNTED = re.compile(r"[\w.%]+_\d{5,}_\.png")


def _bytes(file: dict[str, Any]) -> bytes:
    """Some bytes of the recorded length, the same ones for the same hash."""
    return (file["sha256"] * (file["len"] // 64 + 1)).encode()[: file["len"]]


def body(event: dict[str, Any]) -> bytes:
    """The recorded bytes of a binary answer that was kept whole."""
    return base64.b64decode(event["response"]["body_base64"])
