"""What a PNG says of itself: its text chunks, replaced without touching the picture.

Formats: PNG specification, sections 5.3 (chunks), 11.3.3 (tEXt is Latin-1, iTXt is UTF-8).
"""

import struct
import zlib
from collections.abc import Iterator, Mapping

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXTS = (b"tEXt", b"zTXt", b"iTXt")


def retold(png: bytes, texts: Mapping[str, str]) -> bytes:
    """The same picture with these texts in the place of all it had; ValueError when the bytes are no whole PNG.

    Keywords are 1 to 79 ASCII characters. Plain ASCII is written as tEXt, which every reader knows, the rest as iTXt.
    """
    header, *rest = _chunks(png)
    kept = [_chunk(kind, data) for kind, data in rest if kind not in TEXTS]
    return b"".join([SIGNATURE, _chunk(*header), *(_text(keyword, text) for keyword, text in texts.items()), *kept])


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and data of each chunk; the pixels' checksums are left to whoever decodes them."""
    if not png.startswith(SIGNATURE):
        raise ValueError("no PNG")
    at, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        if at + 12 > len(png):
            raise ValueError("a PNG that ends too soon")
        length, kind = struct.unpack_from(">I4s", png, at)
        yield kind, png[at + 8 : at + 8 + length]
        at += length + 12


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _text(keyword: str, text: str) -> bytes:
    name = keyword.encode("ascii")
    if text.isascii() and "\0" not in text:
        return _chunk(b"tEXt", name + b"\0" + text.encode("ascii"))
    return _chunk(b"iTXt", name + b"\0\0\0\0\0" + text.encode())  # not compressed, no language, no translation
