"""A running server to talk to, and how to start a stand-in with the models the recordings name."""

import base64
import json
import signal
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import requests


@dataclass(frozen=True, kw_only=True)
class Comfy:
    """A running server. process and base are None for a real ComfyUI somewhere else."""

    url: str
    process: subprocess.Popen[bytes] | None = None
    base: Path | None = None

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, timeout=10)

    def post(self, path: str, body: object) -> requests.Response:
        return requests.post(self.url + path, json=body, timeout=10)

    def switch(self, **change: object) -> None:
        answer = self.post("/standin/behaviour", change)
        assert answer.status_code == 200, answer.text

    def until_idle(self) -> None:
        while self.get("/prompt").json()["exec_info"]["queue_remaining"]:
            time.sleep(0.01)

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


def weights(path: Path, *, metadata: dict[str, str] | None = None, fill: bytes = b"\0") -> None:
    """A whole safetensors file of a few bytes."""
    header = {"__metadata__": metadata or {}, "w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + fill * 4)


def furnish(base: Path) -> None:
    """The models and pictures the recordings were made with, by name."""
    weights(base / "models/checkpoints/random_sd15.safetensors")
    about = {"ss_network_dim": "4", "ss_output_name": "random_lora"}
    weights(base / "models/loras/random_lora.safetensors", metadata=about)
    for folder in ("input", "output"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    (base / "output/_output_images_will_be_put_here").touch()
    dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    (base / "input/example.png").write_bytes(base64.b64decode(dot))


def start(base: Path, *options: str) -> Comfy:
    """A stand-in on a free port, answering."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "functions.standin", "--base-directory", str(base), "--port", str(port)]
    process = subprocess.Popen([*command, "--step-ms", "20", "--preview-method", "auto", *options])
    comfy = Comfy(url=f"http://127.0.0.1:{port}", process=process, base=base)
    deadline = time.monotonic() + 20
    while True:
        try:
            comfy.get("/prompt")
            return comfy
        except requests.ConnectionError:
            assert process.poll() is None, "the stand-in ended while starting"
            assert time.monotonic() < deadline, "the stand-in does not answer"
            time.sleep(0.03)
