"""What a file of pictures may be, for every reader of one."""

from __future__ import annotations

import struct
from contextlib import suppress

import av
from av.container import InputContainer

MAX_PIXELS = 100_000_000
"""Pictures with more pixels than this are refused before they are decoded."""

FILE_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,nut,ivf,dv,dhav,wtv,gif,"
    "h264,hevc,m4v,mjpeg,mpjpeg,obu,av1,yuv4mpegpipe"
)
"""What a file may be. Play lists and scripts that name other files (hls, dash, concat, sdp, …) are not in it."""


def open_file(path: str) -> InputContainer:
    """Open a video file that is of `FILE_FORMATS` and names no other. Raises what PyAV does."""
    options = {"max_pixels": str(MAX_PIXELS), "protocol_whitelist": "file", "format_whitelist": FILE_FORMATS}
    return av.open(path, options=options, metadata_errors="replace")


def image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height as the header of a picture file states them; None where it is no jpg, png, tif, bmp or webp.

    >>> picture_size(b"\\x89PNG\\r\\n\\x1a\\n\\0\\0\\0\\rIHDR\\0\\0\\x75\\x30\\0\\0\\0\\x02")
    (30000, 2)
    """
    with suppress(struct.error, IndexError):
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _two(">II", data, 16)
        if data.startswith(b"BM"):
            return _two("<HH" if struct.unpack_from("<I", data, 14)[0] == 12 else "<ii", data, 18)
        if data.startswith(b"\xff\xd8"):
            return _size_of_jpeg(data)
        if data.startswith((b"II*\x00", b"MM\x00*")):
            return _size_of_tiff(data, "<" if data.startswith(b"II") else ">")
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _size_of_webp(data)
    return None


def _two(form: str, data: bytes, place: int) -> tuple[int, int]:
    width, height = struct.unpack_from(form, data, place)
    return abs(width), abs(height)


def _size_of_jpeg(data: bytes) -> tuple[int, int] | None:
    place = 2
    while (place := data.find(b"\xff", place)) >= 0:
        marker = data[place + 1]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:
            place += 1 if marker == 0xFF else 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return _two(">HH", data, place + 5)[::-1]
        else:
            place += 2 + int(struct.unpack_from(">H", data, place + 2)[0])
    return None


def _size_of_tiff(data: bytes, order: str) -> tuple[int, int] | None:
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    found: dict[int, int] = {}
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(f"{order}HH", data, place)
        if tag in (256, 257):
            (value,) = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", data, place + 8)
            found[tag] = max(value, found.get(tag, 0))
    return (found[256], found[257]) if len(found) == 2 else None


def _size_of_webp(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = _two("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None
