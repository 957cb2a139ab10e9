"""The folders below the base directory, as ComfyUI names, lists and numbers what lies in them.

Nothing here remembers a listing: every question is answered from the disk, so a model that appears, vanishes or is
linked in is seen at once, as with the real server.
"""

import hashlib
import json
import mimetypes
import posixpath
import shutil
import struct
import time
from functools import cache
from os import walk
from pathlib import Path

DATA = Path(__file__).parent / "data"
MODEL_SUFFIXES = {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"}
FINGERPRINT_BYTES = 1 << 20  # enough to tell two weights apart without reading gigabytes


class BrokenModel(Exception):
    """The model file is empty or half-written; copy it again."""


class OutsideFolder(Exception):
    """A name leads out of the folder it belongs in."""


@cache
def model_folders() -> dict[str, list[str]]:
    """Folder kinds, in the order `/models` answers them, each with its directories below the base."""
    folders: dict[str, list[str]] = json.loads((DATA / "folders.json").read_text())
    return folders


class Folders:
    """The base directory of one server: models/, input/, output/ and temp/ below it."""

    def __init__(self, base: Path) -> None:
        self.base = base.resolve()
        self.input = self.base / "input"
        self.output = self.base / "output"
        self.temp = self.base / "temp"

    def prepare(self) -> None:
        """Make the ordinary folders and empty temp/, as the real server does when it starts."""
        shutil.rmtree(self.temp, ignore_errors=True)
        kinds = [self.base / "models" / kind for kind in ("checkpoints", "loras", "vae", "embeddings")]
        for folder in (self.input, self.output, self.temp, *kinds):
            folder.mkdir(parents=True, exist_ok=True)

    def by_type(self, kind: str) -> Path | None:
        """The folder behind a `type` of /view and /upload, or None for an unknown one."""
        return {"output": self.output, "input": self.input, "temp": self.temp}.get(kind)

    def directories(self, kind: str) -> list[Path]:
        """Where models of a kind may lie, best first."""
        return [self.base / part for part in model_folders()[kind]]

    def models(self, kind: str) -> list[str]:
        """Names of the model files of a kind: sorted, subfolders included with forward slashes, links followed."""
        suffixes = {".yaml"} if kind == "configs" else MODEL_SUFFIXES
        names = set()
        for directory in self.directories(kind):
            for folder, subfolders, files in walk(directory, followlinks=True):
                subfolders[:] = [name for name in subfolders if name != ".git"]
                names |= {
                    (Path(folder) / name).relative_to(directory).as_posix()
                    for name in files
                    if Path(name).suffix.lower() in suffixes
                }
        return sorted(names)

    def images(self) -> list[str]:
        """Image files directly in input/: what LoadImage offers."""
        return sorted(
            entry.name
            for entry in self.input.iterdir()
            if entry.is_file() and (mimetypes.guess_type(entry.name)[0] or "").startswith("image/")
        )

    def find_model(self, kind: str, name: str) -> Path:
        """The file behind a model's name; FileNotFoundError, worded as ComfyUI does, for a dangling link."""
        for directory in self.directories(kind):
            if (directory / name).is_file():
                return directory / name
        raise FileNotFoundError(f"Model in folder '{kind}' with filename '{name}' not found.")

    def annotated(self, name: str, default: Path) -> Path:
        """The file behind `name`, `name [input]`, `name [output]` or `name [temp]`."""
        for kind in ("input", "output", "temp"):
            if name.endswith(f" [{kind}]"):
                return (self.by_type(kind) or default) / name.removesuffix(f" [{kind}]")
        return default / name


def fingerprint(path: Path) -> str:
    """A digest of a model file: its size and first mebibyte.

    BrokenModel for an empty file and for a safetensors file shorter than its own header promises. Any other content
    is taken for a model, so that a few bytes can stand in for gigabytes; the real loader would refuse it.
    """
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(FINGERPRINT_BYTES)
    if size_bytes == 0:
        raise BrokenModel("Error while deserializing header: header too small")
    if path.suffix in {".safetensors", ".sft"} and size_bytes < _promised_bytes(head):
        raise BrokenModel("Error while deserializing header: incomplete metadata, file not fully covered")
    return hashlib.sha256(size_bytes.to_bytes(8, "big") + head).hexdigest()


def safetensors_header(head: bytes) -> dict[str, object]:
    """The JSON header of a safetensors file, or {} where the bytes hold none.

    Format: eight bytes little-endian length, then JSON (https://huggingface.co/docs/safetensors).
    """
    if len(head) <= 8 or head[8:9] != b"{":
        return {}
    try:
        header = json.loads(head[8 : 8 + struct.unpack("<Q", head[:8])[0]])
    except ValueError:
        return {}
    return header if isinstance(header, dict) else {}


def _promised_bytes(head: bytes) -> int:
    """How long a safetensors file must be, by its header; 0 where there is none to read."""
    if len(head) <= 8 or head[8:9] != b"{":
        return 0
    ends = [
        entry["data_offsets"][1]
        for entry in safetensors_header(head).values()
        if isinstance(entry, dict) and "data_offsets" in entry
    ]
    header_bytes: int = struct.unpack("<Q", head[:8])[0]
    return 8 + header_bytes + max(ends, default=0)


class Place:
    """Where a save node may write next: folder, subfolder as reported, basename and counter."""

    def __init__(self, root: Path, prefix: str, *, width_px: int, height_px: int) -> None:
        prefix = _fill(prefix, width_px=width_px, height_px=height_px) if "%" in prefix else prefix
        normal = posixpath.normpath(prefix)
        self.subfolder = posixpath.dirname(normal)
        self.name = posixpath.basename(normal)
        self.folder = (root / self.subfolder).resolve()
        common = posixpath.commonpath((root, self.folder))
        if common != str(root):
            raise OutsideFolder(
                "**** ERROR: Saving image outside the output folder is not allowed."
                f"\n full_output_folder: {self.folder}\n         output_dir: {root}\n         commonpath: {common}"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        # The real server measures the prefix before normalising it, so "" and "sub/" find no earlier file and
        # overwrite number 1.
        self._prefix_length = len(posixpath.basename(prefix))

    def counter(self) -> int:
        """The highest number on disk plus one, at this moment: a removed file's number is given out again."""
        highest = 0
        for entry in self.folder.iterdir():
            stem, rest = entry.name[: self._prefix_length + 1], entry.name[self._prefix_length + 1 :]
            if stem == f"{self.name}_":
                digits = rest.split("_")[0]
                highest = max(highest, int(digits) if digits.isdecimal() else 0)
        return highest + 1

    def file_name(self, counter: int, batch_index: int) -> str:
        """The name of one picture of a batch."""
        return f"{self.name.replace('%batch_num%', str(batch_index))}_{counter:05}_.png"


def _fill(prefix: str, *, width_px: int, height_px: int) -> str:
    now = time.localtime()
    values = {
        "width": str(width_px),
        "height": str(height_px),
        "year": str(now.tm_year),
        "month": f"{now.tm_mon:02}",
        "day": f"{now.tm_mday:02}",
        "hour": f"{now.tm_hour:02}",
        "minute": f"{now.tm_min:02}",
        "second": f"{now.tm_sec:02}",
    }
    for token, value in values.items():
        prefix = prefix.replace(f"%{token}%", value)
    return prefix
