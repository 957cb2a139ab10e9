"""Checkpoints and LoRAs: which there are (Postgres), where they lie (S3), and a checked copy where ComfyUI reads."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection, text

from functions.adapters import cache, storage
from functions.config import config
from functions.domain.errors import Rejected
from functions.domain.parameter import FOLDERS

CHECKPOINTS, LORAS = "checkpoints", "loras"
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


def find(tx: Connection, kind: str, name: str, *, field: str = "model") -> Model:
    """The model of this name; Rejected, with the field that named it, when there is none."""
    row = tx.execute(FIND, {"kind": kind, "name": name}).one_or_none()
    if row is None:
        known = ", ".join(repr(m.name) for m in all_of(tx, kind)[:8]) or "none"
        if kind == LORAS:
            raise Rejected("unknown_lora", f"there is no LoRA {name!r}; known: {known}", field="loras")
        raise Rejected("unknown_model", f"there is no model {name!r} in {kind}; known: {known}", field=field)
    return Model(**row._mapping)


ALL = text("SELECT kind, name, object_key, sha256, size_bytes FROM generator_model WHERE kind = :kind ORDER BY name")


def all_of(tx: Connection, kind: str) -> list[Model]:
    """Every model of a kind, by name."""
    return [Model(**row._mapping) for row in tx.execute(ALL, {"kind": kind})]


EVERY = text("SELECT kind, name, object_key, sha256, size_bytes FROM generator_model ORDER BY kind, name")


def every(tx: Connection) -> list[Model]:
    """Every model of every kind."""
    return [Model(**row._mapping) for row in tx.execute(EVERY)]


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
        for kind in FOLDERS
        for key, size_bytes in storage.listing(config().models_bucket, f"{kind}/")
        if (name := key.removeprefix(f"{kind}/")).endswith(SUFFIXES) and len(name) <= 200
    ]
    return sum(tx.execute(DISCOVER, row).rowcount for row in rows)


EMPTY_SAFETENSORS = (2).to_bytes(8, "little") + b"{}"


def put_stand_in() -> None:
    """A checkpoint that holds nothing, where the models bucket has none: for pools that run ComfyUI's stand-in."""
    bucket = config().models_bucket
    if any(key.endswith(SUFFIXES) for key, _ in storage.listing(bucket, f"{CHECKPOINTS}/")):
        return
    key = f"{CHECKPOINTS}/stand-in.safetensors"
    storage.write_once(bucket, key, EMPTY_SAFETENSORS, content_type="application/octet-stream")


LEARN = text("""
UPDATE generator_model SET sha256 = :sha256, size_bytes = :size_bytes
WHERE kind = :kind AND name = :name AND object_key = :object_key AND sha256 IS NULL
""")


def learn(tx: Connection, model: Model) -> None:
    """Write down what the first fetch of a file read; later fetches are held to it."""
    tx.execute(LEARN, vars(model))


@dataclass(kw_only=True)
class Tally:
    """What fetches came to: files that were there, files that were not, and the bytes downloaded for these."""

    hits: int = 0
    misses: int = 0
    fetched_bytes: int = 0


def fetch(
    model: Model,
    leases: ExitStack,
    *,
    told: Callable[[int, int], None] = lambda done, total: None,
    tally: Tally | None = None,
) -> tuple[str, Model]:
    """A checked copy in ComfyUI's folder, not evicted until `leases` is closed: the name ComfyUI knows it by, and the
    model with its digest filled in. A model that ComfyUI lists itself is neither hit nor miss in the tally.

    storage.Missing when the object is not there, cache.Corrupt when it is not the file on record, cache.TooLarge
    when the cache could never hold it, Unavailable when S3 or room for it is.
    """
    folder = config().comfyui_models_dir
    if model.object_key is None or folder is None:
        return model.name, model
    tally = tally or Tally()
    kept = cache.Cache(Path(folder), limit_bytes=config().models_cache_bytes)
    source = cache.Source(bucket=config().models_bucket, key=model.object_key, sha256=model.sha256)
    found = kept.fetch(source, leases, told=told)
    tally.hits += found.hit
    tally.misses += not found.hit
    tally.fetched_bytes += found.downloaded_bytes
    return kept.link(found, model.kind, _plain(model.name)), replace(
        model, sha256=found.sha256, size_bytes=found.size_bytes
    )


def _plain(name: str) -> str:
    """A file name that cannot lead out of its folder, whatever a model is called."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)[-100:].lstrip(".") or "model"
