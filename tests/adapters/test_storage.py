"""Objects: written once, read in a stream, and missing in so many words."""

import hashlib
import uuid

import pytest

from functions.adapters import storage
from functions.config import config
from functions.domain.errors import Unavailable

pytestmark = pytest.mark.usefixtures("stack")
PLAIN = "application/octet-stream"


@pytest.fixture
def bucket() -> str:
    return config().outputs_bucket


@pytest.fixture
def key() -> str:
    return f"tests/{uuid.uuid4().hex}"


def test_what_was_written_is_read_whole(bucket: str, key: str) -> None:
    storage.write_once(bucket, key, b"a heron", content_type=PLAIN)
    assert storage.read(bucket, key, limit_bytes=100) == b"a heron"
    assert storage.size(bucket, key) == 7
    assert storage.sha256(bucket, key) == hashlib.sha256(b"a heron").hexdigest()


def test_the_same_bytes_again_are_welcome(bucket: str, key: str) -> None:
    for _ in range(2):
        storage.write_once(bucket, key, b"a heron", content_type=PLAIN)
    assert storage.read(bucket, key, limit_bytes=100) == b"a heron"


@pytest.mark.parametrize("others", [b"a stork", b"two herons", b""])
def test_other_bytes_under_the_same_key_are_a_conflict_and_change_nothing(bucket: str, key: str, others: bytes) -> None:
    storage.write_once(bucket, key, b"a heron", content_type=PLAIN)
    with pytest.raises(storage.Conflict, match=f"{bucket}/{key} holds something else"):
        storage.write_once(bucket, key, others, content_type=PLAIN)
    assert storage.read(bucket, key, limit_bytes=100) == b"a heron"


def test_an_object_that_is_not_there_is_missing_by_bucket_and_key(bucket: str, key: str) -> None:
    assert storage.size(bucket, key) is None
    with pytest.raises(storage.Missing, match=f"{bucket}/{key}"):
        storage.read(bucket, key, limit_bytes=100)
    with pytest.raises(storage.Missing, match=f"{bucket}/{key}"):
        next(storage.stream(bucket, key))
    with pytest.raises(storage.Missing):
        storage.copy((bucket, key), (bucket, f"{key}-copy"), content_type=PLAIN)


def test_a_large_object_comes_in_pieces_and_from_wherever_it_is_wanted(bucket: str, key: str) -> None:
    data = bytes(range(256)) * 10_000
    storage.write_once(bucket, key, data, content_type=PLAIN)
    pieces = list(storage.stream(bucket, key))
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= storage.CHUNK_BYTES < len(data)
    assert b"".join(storage.stream(bucket, key, start=len(data) - 3)) == data[-3:]


def test_an_object_larger_than_it_may_be_is_not_read_into_memory(bucket: str, key: str) -> None:
    storage.write_once(bucket, key, b"a heron", content_type=PLAIN)
    with pytest.raises(Unavailable, match="larger than 6 bytes"):
        storage.read(bucket, key, limit_bytes=6)


def test_a_copy_is_the_same_object_elsewhere_and_copying_again_changes_nothing(bucket: str, key: str) -> None:
    storage.write_once(bucket, key, b"a heron", content_type=PLAIN)
    for _ in range(2):
        storage.copy((bucket, key), (config().collections_bucket, key), content_type="image/png")
    assert storage.read(config().collections_bucket, key, limit_bytes=100) == b"a heron"


def test_a_store_that_is_not_there_is_unavailable(bucket: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for cached in (config, storage.client):
        cached.cache_clear()
    try:
        with pytest.raises(Unavailable, match="S3 cannot be reached"):
            storage.size(bucket, key)
    finally:
        monkeypatch.undo()
        for cached in (config, storage.client):
            cached.cache_clear()
