"""The node's model cache: files named by their content, whole or not there, within a bound, shared by its runners.

Below COMFYUI_MODELS_DIR, on one filesystem:

    .cache/files/<sha256>         a whole file; its modification time is its last use
    .cache/parts/<key>.part       a download under way or broken off, and in <key>.json what it is of
    .cache/locks/…                `room` for whoever counts and evicts, <key> for whoever downloads, <sha256> shared by
                                  whoever uses the file; flocks, so a killed runner's end with it
    <kind>/<sha256[:12]>/<name>   a link to a file, where ComfyUI looks: it would not notice another file under a name
                                  that it has loaded before

Nothing here is truth: the whole folder may be removed while no runner is at work.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from functions.adapters import storage
from functions.domain.errors import Unavailable

log = logging.getLogger(__name__)
BREAKS = 5  # transfers that may break off without a byte gained before a download gives up
PAUSE_S = 0.5  # before the next of these; doubled each time
Told = Callable[[int, int], None]


class Corrupt(Exception):
    """The bytes that arrived are not the file that is on record; the text names it."""


class Full(Unavailable):
    """There is no room just now: what the cache holds is in use."""


class TooLarge(Exception):
    """The file alone is larger than the cache may grow; the text says by how much to raise the bound."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What to download, and the digest to hold it to; None: nobody has read it yet."""

    bucket: str
    key: str
    sha256: str | None

    @property
    def slug(self) -> str:
        """A file name for its download."""
        return hashlib.sha256(f"{self.bucket}/{self.key}".encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A file in the cache; `downloaded_bytes` is what this fetch had to transfer, 0 for a hit."""

    path: Path
    sha256: str
    size_bytes: int
    hit: bool
    downloaded_bytes: int = 0


class Cache:
    """The cache below a models folder, kept within limit_bytes (None: within the disk)."""

    def __init__(self, root: Path, *, limit_bytes: int | None = None) -> None:
        self.root, self.limit_bytes = root, limit_bytes
        self._files, self._parts, self._locks = (root / ".cache" / part for part in ("files", "parts", "locks"))
        for folder in (self._files, self._parts, self._locks):
            folder.mkdir(parents=True, exist_ok=True)

    def fetch(self, source: Source, leases: ExitStack, *, told: Told = lambda done, total: None) -> Fetched:
        """The file, held against eviction until `leases` is closed.

        One runner of a node downloads, the others wait for it. storage.Missing when the object is not there, Corrupt
        when it is not the file on record, TooLarge or Full when there is no room for it, Unavailable when S3 is.
        """
        if source.sha256 and (found := self._held(source.sha256, leases)):
            return found
        with self._locked(source.slug):
            if source.sha256 and (found := self._held(source.sha256, leases)):
                return found  # another runner brought it while this one waited
            return self._download(source, leases, told)

    def link(self, fetched: Fetched, kind: str, name: str) -> str:
        """Put the file where ComfyUI looks; gives the name that ComfyUI knows it by."""
        place = self.root / kind / fetched.sha256[:12] / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # relative, because ComfyUI may have the folder mounted elsewhere
            place.symlink_to(os.path.relpath(fetched.path, place.parent))
        return f"{place.parent.name}/{name}"

    def _held(self, sha256: str, leases: ExitStack) -> Fetched | None:
        """The file if it is here, leased; the lease comes first, so that nobody evicts what was just seen."""
        with ExitStack() as lease:
            lease.enter_context(self._locked(sha256, shared=True))
            path = self._files / sha256
            try:
                os.utime(path)
            except FileNotFoundError:
                return None
            leases.push(lease.pop_all())
            return Fetched(path=path, sha256=sha256, size_bytes=path.stat().st_size, hit=True)

    def _download(self, source: Source, leases: ExitStack, told: Told) -> Fetched:
        head = storage.head(source.bucket, source.key)
        if head is None:
            raise storage.Missing(f"{source.bucket}/{source.key}")
        if self.limit_bytes is not None and head.size_bytes > self.limit_bytes:
            raise TooLarge(
                f"{source.bucket}/{source.key} has {head.size_bytes} bytes, and the model cache may have "
                f"{self.limit_bytes}: raise MODELS_CACHE_SIZE"
            )
        part, note = (self._parts / f"{source.slug}.{suffix}" for suffix in ("part", "json"))
        known = {"etag": head.etag, "size_bytes": head.size_bytes}
        if _noted(note) != known:
            part.unlink(missing_ok=True)  # of another file under this key
        note.write_text(json.dumps(known))
        try:
            self._make_room(source.slug, head.size_bytes - _size(part))
        except Full:
            note.unlink()
            raise
        started_at = _size(part)
        digest = _transfer(source, head, part, told)
        if source.sha256 not in (None, digest):
            part.unlink()
            note.unlink()
            raise Corrupt(f"{source.bucket}/{source.key} has sha256 {digest[:12]}…, not {str(source.sha256)[:12]}…")
        leases.enter_context(self._locked(digest, shared=True))
        part.replace(self._files / digest)
        note.unlink()
        log.info("fetched %s/%s (%d bytes)", source.bucket, source.key, head.size_bytes - started_at)
        return Fetched(
            path=self._files / digest,
            sha256=digest,
            size_bytes=head.size_bytes,
            hit=False,
            downloaded_bytes=head.size_bytes - started_at,
        )

    def _make_room(self, slug: str, need_bytes: int) -> None:
        """Evict what was used longest ago until so much more fits, beside what other downloads have been promised."""
        with self._locked("room"):
            others = [part for part in self._parts.glob("*.json") if part.stem != slug]
            left = [
                note for note in others if not self._busy(note.stem)
            ]  # broken off: nobody's promise, and first to go
            promised = sum(_missing(note) for note in others if note not in left)
            files = sorted(self._files.iterdir(), key=lambda path: path.stat().st_mtime)
            for victim in (*left, *files):
                if self._excess(need_bytes + promised) <= 0:
                    return
                self._evict(victim)
            if (excess := self._excess(need_bytes + promised)) > 0:
                raise Full(f"the model cache has no room: {excess} bytes more are needed beside the files in use")

    def _excess(self, need_bytes: int) -> int:
        """Bytes by which this need is above the bound, or above what the disk has left."""
        over_disk = need_bytes - shutil.disk_usage(self.root).free
        if self.limit_bytes is None:
            return over_disk
        held = sum(map(_size, (*self._files.iterdir(), *self._parts.glob("*.part"))))
        return max(over_disk, held + need_bytes - self.limit_bytes)

    def _evict(self, victim: Path) -> None:
        """Remove a file that nobody uses, its links first: ComfyUI lists a link that leads nowhere."""
        if victim.suffix == ".json":
            victim.with_suffix(".part").unlink(missing_ok=True)
            victim.unlink(missing_ok=True)
            return
        with suppress(BlockingIOError), self._locked(victim.name, wait=False):
            for folder in self.root.glob(f"[!.]*/{victim.name[:12]}"):
                shutil.rmtree(folder)
            log.info("evicted %s (%d bytes)", victim.name[:12], _size(victim))
            victim.unlink()

    def _busy(self, name: str) -> bool:
        try:
            with self._locked(name, wait=False):
                return False
        except BlockingIOError:
            return True

    @contextmanager
    def _locked(self, name: str, *, shared: bool = False, wait: bool = True) -> Iterator[None]:
        """A lock that ends with the process. Lock files stay: removing one would give two holders the same lock."""
        with (self._locks / name).open("a") as file:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
            yield


def _transfer(source: Source, head: storage.Head, part: Path, told: Told) -> str:
    """Bring the part to its full size, from where it stands, hashed on the way; gives the digest.

    A transfer that breaks off goes on where it broke. What is there already is read once more for the digest.
    """
    digest, breaks = hashlib.sha256(), 0
    with part.open("a+b") as file:
        file.seek(0)
        while chunk := file.read(storage.CHUNK_BYTES):
            digest.update(chunk)
        done = file.tell()
        while done < head.size_bytes:
            before = done
            try:
                for chunk in storage.stream(source.bucket, source.key, start=done):
                    file.write(chunk)
                    digest.update(chunk)
                    done += len(chunk)
                    told(done, head.size_bytes)
                    breaks = 0
            except Unavailable as error:
                breaks += 1
                if breaks > BREAKS:
                    raise
                log.warning("%s/%s broke off at %d bytes: %s; going on", source.bucket, source.key, done, error)
                time.sleep(PAUSE_S * 2**breaks if done == before else 0)
        file.flush()
        os.fsync(file.fileno())
    if done > head.size_bytes:
        part.unlink()
        raise Unavailable(f"{source.bucket}/{source.key} changed while it was read")
    return digest.hexdigest()


def _noted(note: Path) -> object:
    try:
        return json.loads(note.read_text())
    except (FileNotFoundError, ValueError):  # ValueError: a runner died while writing it
        return None


def _missing(note: Path) -> int:
    """Bytes that a download has still to bring."""
    known = _noted(note)
    return max(0, known["size_bytes"] - _size(note.with_suffix(".part"))) if isinstance(known, dict) else 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
