"""S3: objects are read, written once and copied; what is true of one is kept in Postgres, not in its metadata."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from functions.config import config
from functions.domain.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CHUNK_BYTES = 1 << 20


class Missing(Exception):
    """There is no such object; the text is its bucket and key."""


class Conflict(Exception):
    """Another object stands under this key already, and results are never overwritten."""


@cache
def client() -> "S3Client":
    """The process's S3 client; path-style addresses, because MinIO and its like have no others."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=config().s3_endpoint_url,
        region_name=config().s3_region,
        aws_access_key_id=config().s3_access_key_id,
        aws_secret_access_key=config().s3_secret_access_key,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=5,
            read_timeout=60,
            retries={"max_attempts": 4, "mode": "standard"},
            # Trailing checksums are an AWS addition that its look-alikes do not all read.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


@contextmanager
def answering(bucket: str, key: str) -> Iterator[None]:
    """S3's answers in our words: Missing for an object that is not there, Unavailable for everything passing."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == 404:
            raise Missing(f"{bucket}/{key}") from None
        raise Unavailable(f"S3 answered {status} for {bucket}/{key}") from error
    except BotoCoreError as error:
        raise Unavailable(f"S3 cannot be reached: {error.__class__.__name__}") from error


def read(bucket: str, key: str, *, limit_bytes: int) -> bytes:
    """A small object whole; Unavailable when it is larger than the limit says it may be."""
    with answering(bucket, key):
        body = client().get_object(Bucket=bucket, Key=key)["Body"]
        data = body.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise Unavailable(f"{bucket}/{key} is larger than {limit_bytes} bytes")
    return data


def stream(bucket: str, key: str, *, start: int = 0) -> Iterator[bytes]:
    """An object's bytes from `start` on, in chunks of one MiB."""
    with answering(bucket, key):
        ranged = {"Range": f"bytes={start}-"} if start else {}
        body = client().get_object(Bucket=bucket, Key=key, **ranged)["Body"]  # type: ignore[arg-type]
        yield from body.iter_chunks(CHUNK_BYTES)


def write_once(bucket: str, key: str, data: bytes, *, content_type: str) -> None:
    """Store an object under a key of its own; the same bytes again are welcome, others are a Conflict.

    `If-None-Match` makes the store itself refuse. A store that ignores the header is asked first, which leaves a gap
    only between two writers of one key; keys name job and attempt, so there is one.
    """
    from botocore.exceptions import ClientError

    held = size(bucket, key)
    if held is not None:
        if held == len(data) and sha256(bucket, key) == hashlib.sha256(data).hexdigest():
            return
        raise Conflict(f"{bucket}/{key} holds something else")
    with answering(bucket, key):
        try:
            client().put_object(Bucket=bucket, Key=key, Body=data, ContentType=content_type, IfNoneMatch="*")
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 412:
                raise
            if sha256(bucket, key) != hashlib.sha256(data).hexdigest():
                raise Conflict(f"{bucket}/{key} holds something else") from None


def size(bucket: str, key: str) -> int | None:
    """The object's size in bytes; None when there is none."""
    found = head(bucket, key)
    return None if found is None else found.size_bytes


@dataclass(frozen=True, kw_only=True)
class Head:
    """What the store says of an object without sending it; the ETag changes whenever the object does."""

    size_bytes: int
    etag: str


def head(bucket: str, key: str) -> Head | None:
    """The object's size and ETag; None when there is no such object."""
    try:
        with answering(bucket, key):
            said = client().head_object(Bucket=bucket, Key=key)
    except Missing:
        return None
    return Head(size_bytes=said["ContentLength"], etag=said["ETag"])


def sha256(bucket: str, key: str) -> str:
    """The digest of what is really stored, read back."""
    digest = hashlib.sha256()
    for chunk in stream(bucket, key):
        digest.update(chunk)
    return digest.hexdigest()


def listing(bucket: str, prefix: str) -> Iterator[tuple[str, int]]:
    """Key and size in bytes of every object under a prefix, a page at a time."""
    with answering(bucket, prefix):
        for page in client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for found in page.get("Contents", ()):
                yield found["Key"], found["Size"]


def copy(source: tuple[str, str], target: tuple[str, str], *, content_type: str) -> None:
    """Copy an object between buckets, within the store."""
    with answering(*source):
        client().copy_object(
            CopySource={"Bucket": source[0], "Key": source[1]},
            Bucket=target[0],
            Key=target[1],
            ContentType=content_type,
            MetadataDirective="REPLACE",
        )
