"""What a fresh stack begins with: the shipped workflows, models to name in a request, and a curator with credits.

Everything is put in place by its own name and only once, so a second start changes nothing.
"""

import hashlib
import json
import struct
from dataclasses import dataclass

from functions.adapters import grants, models, postgres, storage, workflows
from functions.adapters.comfyui import ComfyUI
from functions.config import config
from functions.domain.errors import RenderFailed
from functions.domain.parameter import FOLDERS
from functions.stack.process import ServiceFailed

USER, ROLE = "demo", "CURATOR"
WELCOME_CREDITS = 500
HERE = grants.Admin(user_id="local stack", instruction="a fresh stack")
FILES = (
    ("checkpoints", "meadow-sd15.safetensors"),
    ("checkpoints", "harbour-xl.safetensors"),
    ("checkpoints", "sd_xl_refiner_1.0.safetensors"),
    ("loras", "ink-wash.safetensors"),
    ("diffusion_models", "harbour-flux.safetensors"),
    ("text_encoders", "t5xxl_fp8_e4m3fn.safetensors"),
    ("text_encoders", "clip_l.safetensors"),
    ("vae", "ae.safetensors"),
)


def tiny_model(name: str) -> bytes:
    """A valid safetensors file with one small tensor, different for each name: enough for the stand-in, and for
    every key, size and digest on the way to be real."""
    tensor = hashlib.sha256(name.encode()).digest() * 64
    header = json.dumps({"seed": {"dtype": "U8", "shape": [len(tensor)], "data_offsets": [0, len(tensor)]}}).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + tensor


@dataclass(frozen=True, kw_only=True)
class Seeded:
    """What there is to ask for: the model a request names when its asker has no wish, and all that can be named."""

    default_model: str | None
    checkpoints: tuple[str, ...]


def seed(*, comfyui_url: str | None) -> Seeded:
    """Fill an empty stack; `comfyui_url` names a ComfyUI of the user's own, whose models are made known as they lie."""
    found = _tiny_files() if comfyui_url is None else _listed_by(ComfyUI(comfyui_url))
    with postgres.transaction() as tx:
        for document in workflows.shipped():
            workflows.publish(tx, document)
        models.register(tx, found)
        models.discover(tx)  # whatever the user has put into the bucket since
        grants.give(tx, HERE, USER, WELCOME_CREDITS, id="welcome", reason="welcome")
        checkpoints = tuple(m.name for m in models.all_of(tx, models.CHECKPOINTS))
    mine = [m.name for m in found if m.kind == models.CHECKPOINTS]
    return Seeded(default_model=mine[0] if mine else None, checkpoints=checkpoints)


def _tiny_files() -> list[models.Model]:
    found = []
    for kind, name in FILES:
        data, key = tiny_model(name), f"{kind}/{name}"
        storage.write_once(config().models_bucket, key, data, content_type="application/octet-stream")
        sha256 = hashlib.sha256(data).hexdigest()
        found.append(models.Model(kind=kind, name=name, object_key=key, sha256=sha256, size_bytes=len(data)))
    return found


def ask(comfyui_url: str) -> None:
    """Return when this ComfyUI answers; ServiceFailed names the remedy."""
    try:
        with ComfyUI(comfyui_url) as comfyui:
            comfyui.system()
    except RenderFailed as failed:
        raise ServiceFailed(f"{failed.detail}; start it, or unset COMFYUI_URL to have a stand-in") from failed


def _listed_by(comfyui: ComfyUI) -> list[models.Model]:
    """What this ComfyUI lists itself, to be used where it lies."""
    with comfyui:
        return [
            models.Model(kind=kind, name=name, object_key=None, sha256=None, size_bytes=None)
            for kind in FOLDERS
            for name in comfyui.models(kind)
        ]
