"""Answers with an object of an object store: all of it, or the part that a Range header names, read as it is sent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from fastapi import HTTPException
from fastapi.responses import Response, StreamingResponse

CHUNK_BYTES = 2**18
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def object_response(
    content: BinaryIO, size: int, asked: str | None, media_type: str, headers: Mapping[str, str]
) -> Response:
    """The answer to a request for an object. Several ranges at once are answered with the whole object, as HTTP allows.

    Args:
        content: the object, opened; it is closed when it has been sent.
        size: bytes.
        asked: the Range header; None without one.
        media_type: of the object.
        headers: further headers.

    Raises:
        HTTPException: 416 where the range is outside the object.
    """
    try:
        part = byte_range(asked, size)
    except HTTPException:
        content.close()
        raise
    first, end = part or (0, size)
    said = {**headers, "Accept-Ranges": "bytes", "Content-Length": str(end - first)}
    if part is not None:
        said["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
    return StreamingResponse(
        _chunks(content, first, end), status_code=200 if part is None else 206, media_type=media_type, headers=said
    )


def byte_range(asked: str | None, size: int) -> tuple[int, int] | None:
    """The first byte and the end of a range; None where all bytes are to be sent.

    Args:
        asked: a Range header; None without one.
        size: bytes there are.

    Raises:
        HTTPException: 416 where the range is outside.

    >>> byte_range("bytes=2-4", 10), byte_range("bytes=-3", 10), byte_range("bytes=5-", 10), byte_range("bytes=1-2,4-5", 10)
    ((2, 5), (7, 10), (5, 10), None)
    """
    found = None if asked is None else _RANGE.fullmatch(asked.replace(" ", ""))
    if found is None or not (found[1] or found[2]):
        return None
    if found[1]:
        first, end = int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
    else:
        first, end = max(0, size - int(found[2])), size
    if first >= end:
        raise HTTPException(416, "the range is outside the file", {"Content-Range": f"bytes */{size}"})
    return first, end


def _chunks(content: BinaryIO, first: int, end: int) -> Iterator[bytes]:
    with content:
        content.seek(first)
        left = end - first
        while left and (chunk := content.read(min(CHUNK_BYTES, left))):
            left -= len(chunk)
            yield chunk
