"""The node's model cache: bounded, shared, and no half file in it whatever dies."""

import hashlib
import os
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from cutting import cutting_proxy
from live import Stack

from functions.adapters import cache, storage
from functions.adapters.cache import Cache, Fetched, Source
from functions.config import config
from functions.domain.errors import GivenBack

MIB = 1 << 20


Put = Callable[..., Source]


@pytest.fixture
def put(stack: Stack) -> Put:
    """Stores some MiB of bytes of their own, and gives their source."""

    def store(mib: int = 1) -> Source:
        data = (uuid.uuid4().bytes * (MIB // 16)) * mib
        key = f"checkpoints/{uuid.uuid4().hex}.safetensors"
        storage.write_once(config().models_bucket, key, data, content_type="application/octet-stream")
        return Source(bucket=config().models_bucket, key=key, sha256=hashlib.sha256(data).hexdigest())

    return store


def fetch(kept: Cache, source: Source, leases: ExitStack | None = None) -> Fetched:
    """The file; held by these leases, or let go of at once."""
    with ExitStack() as own:
        return kept.fetch(source, leases or own)


def age(found: Fetched, seconds: int) -> None:
    """Make the file one that was last used so long ago."""
    then = found.path.stat().st_mtime - seconds
    os.utime(found.path, (then, then))


def test_a_full_cache_gives_up_the_file_that_was_used_longest_ago(put: Put, tmp_path: Path) -> None:
    kept = Cache(tmp_path, limit_bytes=3 * MIB)
    first, second, third = (fetch(kept, put()) for _ in range(3))
    for found, seconds in ((first, 30), (second, 90), (third, 60)):
        age(found, seconds)
    name = kept.link(second, "checkpoints", "second.safetensors")
    fetch(kept, put())
    assert [found.path.exists() for found in (first, second, third)] == [True, False, True]
    assert not os.path.lexists(tmp_path / "checkpoints" / name), "ComfyUI would list a link that leads nowhere"


def test_a_hit_is_a_use(put: Put, tmp_path: Path) -> None:
    kept = Cache(tmp_path, limit_bytes=2 * MIB)
    sources = [put(), put()]
    first, second = (fetch(kept, source) for source in sources)
    age(first, 60)
    age(second, 30)
    assert fetch(kept, sources[0]).hit
    fetch(kept, put())
    assert first.path.exists()
    assert not second.path.exists()


def test_a_file_in_use_is_never_evicted_and_who_finds_no_room_is_told_to_wait(put: Put, tmp_path: Path) -> None:
    kept = Cache(tmp_path, limit_bytes=2 * MIB)
    with ExitStack() as leases:
        used = [fetch(kept, put(), leases) for _ in range(2)]
        with pytest.raises(cache.Full, match=f"{MIB} bytes more are needed"):
            fetch(kept, put())
        assert all(found.path.exists() for found in used)
        assert not list((tmp_path / ".cache" / "parts").iterdir()), "nothing is promised to who was turned away"
    assert fetch(kept, put()).path.exists()


def test_a_file_larger_than_the_cache_may_grow_is_refused_and_evicts_nothing(put: Put, tmp_path: Path) -> None:
    kept = Cache(tmp_path, limit_bytes=2 * MIB)
    held = fetch(kept, put())
    with pytest.raises(cache.TooLarge, match="raise MODELS_CACHE_SIZE"):
        fetch(kept, put(3))
    assert held.path.exists()


def test_a_download_that_was_stopped_goes_on_where_it_stopped(put: Put, tmp_path: Path) -> None:
    kept, source = Cache(tmp_path), put(4)

    def stop(done: int, total: int) -> None:
        if done >= 2 * MIB:
            raise GivenBack

    with pytest.raises(GivenBack), ExitStack() as leases:
        kept.fetch(source, leases, told=stop)
    told: list[int] = []
    with ExitStack() as leases:
        found = kept.fetch(source, leases, told=lambda done, total: told.append(done))
    assert found.downloaded_bytes <= 2 * MIB
    assert min(told) > 2 * MIB
    assert hashlib.sha256(found.path.read_bytes()).hexdigest() == source.sha256


def test_what_was_begun_of_another_file_under_the_same_key_is_thrown_away(put: Put, tmp_path: Path) -> None:
    kept, source = Cache(tmp_path), put(2)

    def stop(done: int, total: int) -> None:
        raise GivenBack

    with pytest.raises(GivenBack), ExitStack() as leases:
        kept.fetch(source, leases, told=stop)
    newer = b"newer" * MIB
    storage.client().put_object(Bucket=source.bucket, Key=source.key, Body=newer)
    found = fetch(kept, Source(bucket=source.bucket, key=source.key, sha256=None))
    assert found.sha256 == hashlib.sha256(newer).hexdigest()


def test_a_download_that_breaks_off_is_resumed_within_the_fetch(put: Put, tmp_path: Path) -> None:
    """The store behind a proxy that hangs up after each MiB and a half."""
    source = put(4)
    url = str(config().s3_endpoint_url)
    with cutting_proxy(url, after_bytes=3 * MIB // 2) as (endpoint, cuts), pytest.MonkeyPatch.context() as patch:
        patch.setenv("S3_ENDPOINT_URL", endpoint)
        config.cache_clear()
        storage.client.cache_clear()
        try:
            found = fetch(Cache(tmp_path), source)
        finally:
            patch.undo()
            config.cache_clear()
            storage.client.cache_clear()
    assert found.sha256 == source.sha256
    assert cuts(), "the proxy did hang up"


FILL = textwrap.dedent("""
    import sys
    from contextlib import ExitStack
    from pathlib import Path
    from functions.adapters.cache import Cache, Source
    root, limit, bucket, key, sha256, pause = sys.argv[1:]
    def told(done, total):
        print(done, flush=True)
        if pause == "mid-way":
            sys.stdin.read()
    kept, source = Cache(Path(root), limit_bytes=int(limit)), Source(bucket=bucket, key=key, sha256=sha256)
    with ExitStack() as leases:
        kept.fetch(source, leases, told=told)
        print("held", flush=True)
        sys.stdin.read()
""")


def runner(stack: Stack, root: Path, limit_bytes: int, source: Source, pause: str) -> subprocess.Popen[str]:
    """Another runner of the node, which fetches the file and keeps using it, or stops mid-way."""
    return subprocess.Popen(
        [sys.executable, "-c", FILL, str(root), str(limit_bytes), source.bucket, source.key, str(source.sha256), pause],
        env=stack.house.env | {"PYTHONPATH": str(Path.cwd())},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str], word: str) -> None:
    """Wait until the runner has said so."""
    assert process.stdout
    assert any(line.strip() == word for line in process.stdout)


def test_what_a_killed_runner_used_may_go(stack: Stack, put: Put, tmp_path: Path) -> None:
    kept, source = Cache(tmp_path, limit_bytes=MIB), put()
    other = runner(stack, tmp_path, MIB, source, "-")
    said(other, "held")
    with pytest.raises(cache.Full):
        fetch(kept, put())
    other.kill()
    other.wait()
    fetch(kept, put())
    assert not fetch(kept, source).hit


def test_space_is_promised_to_a_download_before_its_bytes_arrive(stack: Stack, put: Put, tmp_path: Path) -> None:
    kept, source = Cache(tmp_path, limit_bytes=4 * MIB), put(3)
    other = runner(stack, tmp_path, 4 * MIB, source, "mid-way")
    assert other.stdout
    assert int(other.stdout.readline()) < 3 * MIB
    with pytest.raises(cache.Full):
        fetch(kept, put(2))
    other.kill()
    other.wait()
    assert fetch(kept, put(2)).path.exists(), "what the killed one had begun is the first to go"


def test_a_killed_runners_half_file_is_taken_up_by_the_next(stack: Stack, put: Put, tmp_path: Path) -> None:
    source = put(4)
    other = runner(stack, tmp_path, 8 * MIB, source, "mid-way")
    assert other.stdout
    begun = int(other.stdout.readline())
    other.kill()
    other.wait()
    found = fetch(Cache(tmp_path, limit_bytes=8 * MIB), source)
    assert 4 * MIB - begun <= found.downloaded_bytes <= 4 * MIB
    assert hashlib.sha256(found.path.read_bytes()).hexdigest() == source.sha256


def test_the_same_content_under_two_names_is_kept_once(put: Put, tmp_path: Path) -> None:
    kept, source = Cache(tmp_path), put()
    found = fetch(kept, source)
    names = [kept.link(found, "checkpoints", name) for name in ("a.safetensors", "b.safetensors")]
    places = [tmp_path / "checkpoints" / name for name in names]
    assert len({place.resolve() for place in places}) == 1
    assert len({*places}) == 2


def test_a_link_leads_to_its_file_wherever_the_folder_is_mounted(put: Put, tmp_path: Path) -> None:
    kept, source = Cache(tmp_path / "here"), put()
    name = kept.link(fetch(kept, source), "checkpoints", "a.safetensors")
    (tmp_path / "here").rename(tmp_path / "there")
    data = (tmp_path / "there" / "checkpoints" / name).read_bytes()
    assert hashlib.sha256(data).hexdigest() == source.sha256
