"""What a GPU host is made of, and how fast it moves bytes."""

import csv
import os
import platform
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from functions.adapters import storage

MIB = 1 << 20
PROBE_KEY = "preflight/probe"  # one object, overwritten by each look
FIELDS = (
    "name",
    "memory.total",
    "memory.used",
    "driver_version",
    "temperature.gpu",
    "ecc.errors.uncorrected.volatile.total",
)


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU as its driver reports it; None: it does not say. ecc_errors: uncorrected ones since it started."""

    name: str
    vram_bytes: int
    vram_used_bytes: int
    driver: str
    temperature_c: int | None
    ecc_errors: int | None

    @property
    def vram_gib(self) -> float:
        return self.vram_bytes / 2**30


def gpus() -> list[Gpu]:
    """The GPUs of this host, by nvidia-smi; none where there is no such program or no driver behind it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    asked = [program, f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False)
    return (
        [_gpu(row) for row in csv.reader(done.stdout.splitlines(), skipinitialspace=True)]
        if done.returncode == 0
        else []
    )


def _gpu(row: list[str]) -> Gpu:
    name, total_mib, used_mib, driver, temperature_c, ecc_errors = row
    return Gpu(
        name=name,
        vram_bytes=int(total_mib) * MIB,
        vram_used_bytes=int(used_mib) * MIB,
        driver=driver,
        temperature_c=_number(temperature_c),
        ecc_errors=_number(ecc_errors),
    )


def _number(said: str) -> int | None:
    """A number, or None for `[N/A]` and its like."""
    return int(said) if said.isdigit() else None


def describe() -> dict[str, object]:
    """The host in a few words, for figures to be kept with."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "gpus": [vars(gpu) for gpu in gpus()],
    }


def _cpu() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Bytes moved in how many seconds."""

    size_bytes: int
    seconds: float

    @property
    def mib_per_s(self) -> float:
        return self.size_bytes / MIB / max(self.seconds, 1e-9)


def disk_write(folder: Path, *, size_bytes: int) -> Pace:
    """How fast this folder's disk takes bytes, to the platter. OSError when it does not."""
    probe, piece = folder / f".probe-{uuid.uuid4().hex}", os.urandom(MIB)
    began = time.perf_counter()
    try:
        with probe.open("wb") as file:
            for _ in range(size_bytes // MIB):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        return Pace(size_bytes=size_bytes, seconds=time.perf_counter() - began)
    finally:
        probe.unlink(missing_ok=True)


def s3_write(bucket: str, *, size_bytes: int) -> Pace:
    """How fast the store takes an object. Unavailable when it does not."""
    data = os.urandom(size_bytes)
    began = time.perf_counter()
    with storage.answering(bucket, PROBE_KEY):
        storage.client().put_object(Bucket=bucket, Key=PROBE_KEY, Body=data)
    return Pace(size_bytes=size_bytes, seconds=time.perf_counter() - began)


def s3_read(bucket: str, key: str, *, most_bytes: int) -> Pace:
    """How fast the store gives an object, or as much of it. Unavailable when it does not, Missing when it has none."""
    began, done = time.perf_counter(), 0
    for chunk in _until(storage.stream(bucket, key), most_bytes):
        done += len(chunk)
    return Pace(size_bytes=done, seconds=time.perf_counter() - began)


def _until(chunks: Iterator[bytes], most_bytes: int) -> Iterator[bytes]:
    done = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        if done >= most_bytes:
            return
