"""S3: objects are read, written once and copied; what is true of one is kept in Postgres, not in its metadata."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

from functions.config import config
from functions.domain.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CHUNK_BYTES = 1 << 20
DELETED_AT_ONCE = 1000  # more is refused (S3 API, DeleteObjects)


class Missing(Exception):
    """There is no such object; the text is its bucket and key."""


class Conflict(Exception):
    """Another object stands under this key already, and results are never overwritten."""


@cache
def client() -> "S3Client":
    """The process's S3 client; path-style addresses, because MinIO and its like have no others."""
    return _client(config().s3_endpoint_url)


@cache
def _link_client() -> "S3Client":
    return _client(config().s3_links_endpoint_url or config().s3_endpoint_url)


def _client(endpoint_url: str | None) -> "S3Client":
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
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


def stream(bucket: str, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """An object's bytes from `start` to before `end`, or to its end, in chunks of one MiB."""
    with answering(bucket, key):
        ranged = {"Range": f"bytes={start}-{'' if end is None else end - 1}"} if start or end is not None else {}
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


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One object of a listing."""

    key: str
    size_bytes: int
    modified_at: datetime


def pages(bucket: str, prefix: str) -> Iterator[list[Stored]]:
    """All objects under a prefix, a page of at most a thousand at a time."""
    with answering(bucket, prefix):
        for page in client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            yield [
                Stored(key=found["Key"], size_bytes=found["Size"], modified_at=found["LastModified"])
                for found in page.get("Contents", ())
            ]


def delete(bucket: str, keys: Sequence[str]) -> None:
    """Delete objects, a thousand a call; one that is gone already is deleted. Unavailable when the store keeps any."""
    for begin in range(0, len(keys), DELETED_AT_ONCE):
        batch = keys[begin : begin + DELETED_AT_ONCE]
        with answering(bucket, batch[0]):
            said = client().delete_objects(
                Bucket=bucket, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True}
            )
        kept = [error for error in said.get("Errors", ()) if error.get("Code") != "NoSuchKey"]
        if kept:
            raise Unavailable(
                f"S3 keeps {len(kept)} objects of {bucket}: {kept[0].get('Code')} for {kept[0].get('Key')}"
            )


def abort_uploads(bucket: str, prefix: str, *, before: datetime, dry_run: bool) -> int:
    """Give up uploads in parts that began before this moment and never ended, with their parts; gives how many."""
    given_up = 0
    try:
        with answering(bucket, prefix):
            for page in client().get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
                for begun in page.get("Uploads", ()):
                    if begun["Initiated"] < before:
                        given_up += 1
                        if not dry_run:
                            _abort(bucket, begun["Key"], begun["UploadId"])
    except Missing:  # rclone's answer where there has never been an upload in parts
        return given_up
    return given_up


def _abort(bucket: str, key: str, upload_id: str) -> None:
    with suppress(Missing), answering(bucket, key):  # it may have ended meanwhile
        client().abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)


def link(bucket: str, key: str, *, lasts_s: float, content_type: str, disposition: str) -> str:
    """An address that gives this object to whoever holds it, for so long; made without asking the store."""
    made: str = _link_client().generate_presigned_url(
        "get_object",
        Params={
            "Bucket": bucket,
            "Key": key,
            "ResponseContentType": content_type,
            "ResponseContentDisposition": disposition,
        },
        ExpiresIn=max(1, round(lasts_s)),
    )
    return made


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
