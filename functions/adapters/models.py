"""Checkpoints and LoRAs: which there are (Postgres), where they lie (S3), and a checked copy where ComfyUI reads."""

import fcntl
import hashlib
import logging
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, text

from functions.adapters import storage
from functions.config import config
from functions.domain.errors import Rejected

log = logging.getLogger(__name__)
CHECKPOINTS, LORAS = "checkpoints", "loras"
KINDS = (CHECKPOINTS, LORAS, "vae")
SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin")  # what ComfyUI lists (folder_paths.py)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model file. object_key None: ComfyUI lists it itself, and it is used where it lies.

    sha256 None: nobody has read the file yet; the first fetch writes down what it read, later ones are held to it.
    """

    kind: str
    name: str
    object_key: str | None
    sha256: str | None
    size_bytes: int | None


FIND = text(
    "SELECT kind, name, object_key, sha256, size_bytes FROM generator_model WHERE kind = :kind AND name = :name"
)


def find(tx: Connection, kind: str, name: str) -> Model:
    """The model of this name; Rejected when there is none."""
    row = tx.execute(FIND, {"kind": kind, "name": name}).one_or_none()
    if row is None:
        known = ", ".join(repr(m.name) for m in all_of(tx, kind)[:8]) or "none"
        field, noun = ("model", "model") if kind == CHECKPOINTS else ("loras", "LoRA")
        raise Rejected(f"unknown_{noun.lower()}", f"there is no {noun} {name!r}; known: {known}", field=field)
    return Model(**row._mapping)


ALL = text("SELECT kind, name, object_key, sha256, size_bytes FROM generator_model WHERE kind = :kind ORDER BY name")


def all_of(tx: Connection, kind: str) -> list[Model]:
    """Every model of a kind, by name."""
    return [Model(**row._mapping) for row in tx.execute(ALL, {"kind": kind})]


REGISTER = text("""
INSERT INTO generator_model (kind, name, object_key, sha256, size_bytes)
VALUES (:kind, :name, :object_key, :sha256, :size_bytes)
ON CONFLICT (kind, name) DO UPDATE SET object_key = excluded.object_key, sha256 = excluded.sha256,
    size_bytes = excluded.size_bytes
""")


def register(tx: Connection, models: Iterable[Model]) -> None:
    """Make models known by name."""
    rows = [vars(model) for model in models]
    if rows:
        tx.execute(REGISTER, rows)


DISCOVER = text("""
INSERT INTO generator_model (kind, name, object_key, size_bytes) VALUES (:kind, :name, :object_key, :size_bytes)
ON CONFLICT (kind, name) DO UPDATE SET object_key = excluded.object_key, size_bytes = excluded.size_bytes, sha256 = NULL
WHERE (generator_model.object_key, generator_model.size_bytes)
      IS DISTINCT FROM (excluded.object_key, excluded.size_bytes)
""")


def discover(tx: Connection) -> int:
    """Make known what lies in the models bucket, under the names it has there; gives how many are new or replaced.

    A file whose size changed is another file: its digest is forgotten, and written down anew by the next fetch.
    """
    rows = [
        {"kind": kind, "name": name, "object_key": key, "size_bytes": size_bytes}
        for kind in KINDS
        for key, size_bytes in storage.listing(config().models_bucket, f"{kind}/")
        if (name := key.removeprefix(f"{kind}/")).endswith(SUFFIXES) and len(name) <= 200
    ]
    return sum(tx.execute(DISCOVER, row).rowcount for row in rows)


LEARN = text("""
UPDATE generator_model SET sha256 = :sha256, size_bytes = :size_bytes
WHERE kind = :kind AND name = :name AND object_key = :object_key AND sha256 IS NULL
""")


def learn(tx: Connection, model: Model) -> None:
    """Write down what the first fetch of a file read; later fetches are held to it."""
    tx.execute(LEARN, vars(model))


class Corrupt(Exception):
    """The bytes that arrived are not the file that is on record; the text names it."""


@dataclass(kw_only=True)
class Tally:
    """What fetches came to: files that were there, files that were not, and the bytes downloaded for these."""

    hits: int = 0
    misses: int = 0
    fetched_bytes: int = 0


def fetch(
    model: Model, *, told: Callable[[int, int], None] = lambda done, total: None, tally: Tally | None = None
) -> tuple[str, Model]:
    """A checked copy in ComfyUI's folder: the name ComfyUI knows it by, and the model with its digest filled in.

    Streamed in constant memory into a file beside its place, hashed on the way, and renamed only when whole, so that
    ComfyUI never sees half a model. One runner of a node downloads, the others wait on the file lock. The folder is
    named after the content: ComfyUI does not notice a file replaced under the same name. A model that ComfyUI lists
    itself is neither hit nor miss in the tally.

    storage.Missing when the object is not there, Corrupt when it is not the file on record, Unavailable when S3 is.
    """
    if model.object_key is None or config().comfyui_models_dir is None:
        return model.name, model
    tally = tally or Tally()
    bucket = config().models_bucket
    folder = Path(config().need("comfyui_models_dir")) / model.kind
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{_plain(model.name)}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if model.sha256 and (known := folder / _name(model, model.sha256)).is_file():
            known.touch()
            tally.hits += 1
            return _name(model, model.sha256), model
        name, read = _download(model, bucket, folder, told)
        tally.misses += 1
        tally.fetched_bytes += read.size_bytes or 0
        return name, read


def _download(model: Model, bucket: str, folder: Path, told: Callable[[int, int], None]) -> tuple[str, Model]:
    assert model.object_key is not None  # noqa: S101
    total = storage.size(bucket, model.object_key)
    if total is None:
        raise storage.Missing(f"{bucket}/{model.object_key}")
    digest, done = hashlib.sha256(), 0
    part = folder / f".{_plain(model.name)}.part"  # one writer, under the lock: what a killed one left is overwritten
    try:
        with part.open("wb") as file:
            for chunk in storage.stream(bucket, model.object_key):
                file.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                told(done, total)
            file.flush()
            os.fsync(file.fileno())
        if model.sha256 is not None and digest.hexdigest() != model.sha256:
            raise Corrupt(
                f"{bucket}/{model.object_key} has sha256 {digest.hexdigest()[:12]}…, not {model.sha256[:12]}…"
            )
        name = _name(model, digest.hexdigest())
        (folder / name).parent.mkdir(exist_ok=True)
        part.replace(folder / name)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
    log.info("fetched %s (%d bytes)", model.name, done)
    return name, Model(
        kind=model.kind,
        name=model.name,
        object_key=model.object_key,
        sha256=digest.hexdigest(),
        size_bytes=done,
    )


def _plain(name: str) -> str:
    """A file name that cannot lead out of its folder, whatever a model is called."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)[-100:].lstrip(".") or "model"


def _name(model: Model, sha256: str) -> str:
    return f"{sha256[:12]}/{_plain(model.name)}"
