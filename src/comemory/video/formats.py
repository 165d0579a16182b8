"""The image and video formats that are read, and limits that every reader of a file keeps."""

from __future__ import annotations

import struct
from contextlib import suppress

import av
from av.container import InputContainer

MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded, so that a small file cannot exhaust the memory."""

FILE_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,nut,ivf,dv,dhav,wtv,gif,"
    "h264,hevc,m4v,mjpeg,mpjpeg,obu,av1,yuv4mpegpipe"
)
"""The containers that a file may be. Playlists and scripts that name other files (hls, dash, concat, sdp) are excluded."""

_NO_VIDEO = frozenset(
    {
        *(".m4a", ".m4b", ".isma", ".mka"),  # sound
        *(".avif", ".heic", ".heif", ".mpo"),  # still images
        *(".mks", ".ism"),  # subtitles; a list of other files
    }
)
"""Endings that the demuxers of `FILE_FORMATS` name, of files without video."""

_MORE_SUFFIXES = {
    "names of recorders and cameras for MP4 and MOV": ".mp4v .qt .moov .hdmov .lrv .insv .360 .mqv .k3g",
    "names for AVI": ".divx .xvid",
    "MPEG program and elementary streams: FFmpeg recognises them by content, and names no ending": (
        ".mpg .mpeg .mpe .mpeg1 .mpeg2 .m1v .m2v .mpv .m2p .ps .vob .vro .evo .mod .tod"
    ),
    "MPEG transport streams, likewise": ".ts .tp .trp .m2t .m2ts .mts .mp2t",
    "Windows Media and its recorders": ".asf .wmv .wm .wtv .dvr-ms",
    "further containers whose demuxers name no ending": ".ivf .mxf .ogv .ogm .ogx",
}
"""Endings that no demuxer names, by the reason for which they are taken for videos."""


def _demuxer_suffixes() -> set[str]:
    return {f".{ending}" for name in FILE_FORMATS.split(",") for ending in av.ContainerFormat(name, "r").extensions}


VIDEO_SUFFIXES = frozenset(_demuxer_suffixes() - _NO_VIDEO).union(*(more.split() for more in _MORE_SUFFIXES.values()))
"""Lower case: what counts as a video in a folder. Those of the demuxers of `FILE_FORMATS`, and those above."""


def open_file(path: str) -> InputContainer:
    """Open a video file of one of `FILE_FORMATS`. It cannot make FFmpeg open another file.

    Raises:
        av.FFmpegError: it cannot be opened.
    """
    options = {"max_pixels": str(MAX_PIXELS), "protocol_whitelist": "file", "format_whitelist": FILE_FORMATS}
    return av.open(path, options=options, metadata_errors="replace")


def image_size(data: bytes) -> tuple[int, int] | None:
    r"""Read width and height from the header of an image file; None where it is no jpg, png, tif, bmp or webp.

    >>> image_size(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x75\x30\0\0\0\x02")
    (30000, 2)
    """
    with suppress(struct.error, IndexError):
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _unpack_pair(">II", data, 16)
        if data.startswith(b"BM"):
            return _unpack_pair("<HH" if struct.unpack_from("<I", data, 14)[0] == 12 else "<ii", data, 18)
        if data.startswith(b"\xff\xd8"):
            return _size_of_jpeg(data)
        if data.startswith((b"II*\x00", b"MM\x00*")):
            return _size_of_tiff(data, "<" if data.startswith(b"II") else ">")
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _size_of_webp(data)
    return None


def jpeg_end(data: bytes) -> int | None:
    r"""Length of the JPEG at the start of `data`, up to its end marker; None if it is cut short.

    Cameras and phones append data after the end marker (previews, motion photos), which may hold markers itself. So the
    segments are walked from the start; looking for the last end marker would accept a cut image with such a trailer.

    >>> jpeg_end(b"\xff\xd8\xff\xda\0\2\1\xff\0\1\xff\xd9trailer")
    12
    """
    offset, in_scan = 2, False
    while offset + 1 < len(data):
        if in_scan or data[offset] != 0xFF:
            offset = data.find(b"\xff", offset)
            if offset < 0 or not in_scan:
                return None
        marker = data[offset + 1 : offset + 2]
        if marker == b"\xd9":
            return offset + 2
        if marker == b"\xff":
            offset += 1
        elif marker == b"\x00" or b"\xd0" <= marker <= b"\xd7":
            offset += 2
        elif len(data) < offset + 4 or marker == b"\xd8":
            return None
        else:
            in_scan = marker == b"\xda"
            offset += 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")
    return None


def error_reason(error: BaseException) -> str:
    """The reason in an error of FFmpeg or the system, without its number and path.

    >>> error_reason(FileNotFoundError(2, "No such file or directory", "a.mp4"))
    'No such file or directory'
    """
    return str(getattr(error, "strerror", None) or error)


def _unpack_pair(form: str, data: bytes, offset: int) -> tuple[int, int]:
    width, height = struct.unpack_from(form, data, offset)
    return abs(width), abs(height)


def _size_of_jpeg(data: bytes) -> tuple[int, int] | None:
    offset = 2
    while (offset := data.find(b"\xff", offset)) >= 0:
        marker = data[offset + 1]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:
            offset += 1 if marker == 0xFF else 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return _unpack_pair(">HH", data, offset + 5)[::-1]
        else:
            offset += 2 + int(struct.unpack_from(">H", data, offset + 2)[0])
    return None


def _size_of_tiff(data: bytes, order: str) -> tuple[int, int] | None:
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    found: dict[int, int] = {}
    for offset in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(f"{order}HH", data, offset)
        if tag in (256, 257):
            (value,) = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", data, offset + 8)
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
        width, height = _unpack_pair("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None
