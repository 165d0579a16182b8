"""Finds the frames of a stream that packet loss has damaged, and those that are predicted from them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from statistics import median
from typing import Any

MAX_DAMAGE_S = 60.0
"""Damage ends after this time even without a key frame: cameras with intra refresh send none, and renew the image within
seconds."""
STEADY = 0.1
"""Intervals that differ from the median by less than this share are steady."""
STEADY_SHARE = 0.9
"""Only a stream whose intervals are this often steady shows a lost frame by a longer interval."""
N_FIRST = 10
"""Intervals, all of them steady, by which the rate of a new connection is known. Of over 30, `STEADY_SHARE` suffices."""
LOST_INTERVALS = 1.7
"""An interval of this many normal ones has lost a frame."""
SELF_CHECKING = ("hevc", "mjpeg")
"""Codecs whose decoder leaves out what it cannot predict (hevc), or that predict nothing (mjpeg)."""
MAX_DELAY = 17
"""Frames that a decoder may hold back to reorder them: 16 by the standard, and the present one."""
MAX_HEADER_BYTES = 1024
"""Of a NAL unit that are read: more than the longest parameter set with scaling lists."""
_N_INTERVALS = 61


class FrameLoss:
    """Follows the packets and decoded frames of one connection and says which frames can be trusted.

    Ours: a decoder conceals what it has not received: it marks the frame with the missing part as corrupt, but not the
    frames predicted from it, which look as if something had moved. They are damaged until the next key frame. A frame
    that is missing as a whole leaves no mark at all. H.264 numbers its reference frames, so a gap in the numbers shows
    it; in other codecs, an interval that is twice as long as all others does. Where their intervals are uneven, or among
    the first ten, a lost frame cannot be told from a long interval: what follows is trusted.

    Args:
        codec: name of the codec, such as `h264`.
        extradata: of the stream.
        time_base_s: seconds of one timestamp unit.
    """

    def __init__(self, codec: str, extradata: bytes | None, time_base_s: float) -> None:
        self._time_base_s = time_base_s
        self._skips = codec == "hevc"
        self._n_behind = 0
        self._numbers = _FrameNumbers(extradata or b"") if codec == "h264" else None
        self._is_predicted = codec not in SELF_CHECKING
        self._intervals: deque[int] = deque(maxlen=_N_INTERVALS)
        self._last_dts: int | None = None
        self._damaged_since_s: float | None = None
        self._is_damaged = False
        self._key_pts: int | None = None
        self._clean_from: int | None = None

    def n_lost_before(self, packet: Any) -> int:
        """The number of frames that are missing before a packet; call it before the packet is decoded."""
        n_lost = self._n_lost(packet)
        self._n_behind += 1
        if packet.is_corrupt or (n_lost and self._is_predicted):
            self._is_damaged = True
        if packet.is_keyframe:
            self._key_pts = packet.pts
            if self._is_damaged and not packet.is_corrupt:
                self._is_damaged, self._clean_from = False, packet.pts
        return n_lost

    def is_clean(self, frame: Any) -> bool:
        """Whether a decoded frame can be trusted."""
        self._n_behind -= 1
        if frame.is_corrupt:
            self._mark_corrupt(frame.pts)
            return False
        is_before_key = self._clean_from is not None and frame.pts is not None and frame.pts < self._clean_from
        if (self._is_damaged or is_before_key) and not self._is_overdue(frame):
            return False
        self._damaged_since_s = None
        return True

    def mark_undecodable(self) -> None:
        """The decoder refused a packet."""
        self._n_behind -= 1
        self._is_damaged = True

    def n_left_out(self) -> int:
        """The number of frames that the decoder left out by itself since the last call; call it after each packet."""
        if not self._skips or self._n_behind <= MAX_DELAY:
            return 0
        n_left_out, self._n_behind = self._n_behind - MAX_DELAY, MAX_DELAY
        return n_left_out

    def _mark_corrupt(self, pts: int | None) -> None:
        # A decoder with delay gives a corrupt frame after the next key frame has gone in: that key frame is clean.
        if self._key_pts is not None and pts is not None and pts < self._key_pts:
            self._clean_from = self._key_pts
        else:
            self._is_damaged = True

    def _is_overdue(self, frame: Any) -> bool:
        if frame.pts is None:
            return False
        time_s = frame.pts * self._time_base_s
        if self._damaged_since_s is None or time_s < self._damaged_since_s:
            self._damaged_since_s = time_s
        if time_s - self._damaged_since_s < MAX_DAMAGE_S:
            return False
        self._is_damaged, self._clean_from = False, None
        return True

    def _n_lost(self, packet: Any) -> int:
        if self._numbers is not None:
            n_lost = self._numbers.n_missing(bytes(packet))
            if n_lost is not None:
                return n_lost
        return self._n_missing_intervals(packet)

    def _n_missing_intervals(self, packet: Any) -> int:
        dts = packet.dts if packet.dts is not None else packet.pts
        last, self._last_dts = self._last_dts, dts
        if dts is None or last is None or dts <= last:
            return 0
        interval, normal = dts - last, median(self._intervals) if self._intervals else 0
        n_steady, n = sum(abs(one - normal) <= STEADY * normal for one in self._intervals), len(self._intervals)
        is_steady = n_steady >= STEADY_SHARE * n if n > _N_INTERVALS // 2 else n_steady == n >= N_FIRST
        self._intervals.append(interval)
        return round(interval / normal) - 1 if is_steady and interval >= LOST_INTERVALS * normal else 0


class _FrameNumbers:
    """The `frame_num` of H.264 slices: consecutive reference frames have consecutive numbers (ITU-T H.264, 7.4.3)."""

    SPS, IDR, SLICE = 7, 5, 1

    def __init__(self, extradata: bytes) -> None:
        self._n_bits: int | None = None
        self._has_planes = False
        self._last: int | None = None
        self._length_bytes = 0
        if extradata[:1] == b"\x01" and len(extradata) > 8:
            self._length_bytes = (extradata[4] & 3) + 1
            self._read_sps(extradata[8 : 8 + int.from_bytes(extradata[6:8], "big")])
        else:
            for unit in self._units(extradata):
                if unit[0] & 31 == self.SPS:
                    self._read_sps(unit)

    def n_missing(self, data: bytes) -> int | None:
        """Reference frames missing before an access unit; None if the numbers cannot be read."""
        for unit in self._units(data):
            kind, is_reference = unit[0] & 31, bool(unit[0] & 0x60)
            if kind == self.SPS:
                self._read_sps(unit)
            if kind in (self.IDR, self.SLICE):
                return self._n_missing_before(unit, kind == self.IDR, is_reference)
        return None

    def _n_missing_before(self, unit: bytes, is_idr: bool, is_reference: bool) -> int | None:
        if self._n_bits is None:
            return None
        bits = _Bits(_without_emulation(unit[1:24]))
        try:
            for _ in range(3):  # first_mb_in_slice, slice_type, pic_parameter_set_id
                bits.unsigned()
            if self._has_planes:
                bits.read(2)
            number = bits.read(self._n_bits)
        except IndexError:
            return None
        last = self._last
        if is_reference:
            self._last = number
        if last is None or is_idr:
            return 0
        gap = (number - last) % (1 << self._n_bits)
        # Numbers start again at a key frame: a jump back means that one was lost, and nothing on how many others were.
        is_jump_back = gap > 1 << (self._n_bits - 1)
        return 1 if is_jump_back else max(0, gap - 1)

    def _read_sps(self, unit: bytes) -> None:
        """The parts of a sequence parameter set that a slice header depends on (7.3.2.1.1)."""
        bits = _Bits(_without_emulation(unit[1:]))
        try:
            profile = bits.read(8)
            bits.read(16)
            bits.unsigned()
            self._has_planes = False
            if profile in (44, 83, 86, 100, 110, 118, 122, 128, 138, 139, 244):
                self._read_chroma(bits)
            n_bits = bits.unsigned() + 4
            _skip_picture_order(bits)
            bits.unsigned()
            has_gaps = bool(bits.read(1))
            self._n_bits = None if has_gaps else n_bits
        except IndexError:
            self._n_bits = None

    def _read_chroma(self, bits: _Bits) -> None:
        chroma = bits.unsigned()
        if chroma == 3:
            self._has_planes = bool(bits.read(1))
        bits.unsigned()
        bits.unsigned()
        bits.read(1)
        if bits.read(1):
            for k in range(8 if chroma != 3 else 12):
                if bits.read(1):
                    _skip_scaling_list(bits, 16 if k < 6 else 64)

    def _units(self, data: bytes) -> Iterator[bytes]:
        """The beginnings of the NAL units of a packet, found by their lengths or by start codes."""
        at = 0
        if self._length_bytes:
            while at + self._length_bytes < len(data):
                size = int.from_bytes(data[at : at + self._length_bytes], "big")
                at += self._length_bytes
                if size:
                    yield data[at : at + min(size, MAX_HEADER_BYTES)]
                at += size
            return
        while (at := data.find(b"\0\0\1", at)) >= 0:
            at += 3
            if at < len(data):
                yield data[at : at + MAX_HEADER_BYTES]


class _Bits:
    """Reads bits and Exp-Golomb codes. Raises IndexError at the end."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def read(self, n: int) -> int:
        if n > self._left:
            raise IndexError("no bits left")
        self._left -= n
        return (self._value >> self._left) & ((1 << n) - 1)

    def unsigned(self) -> int:
        zeros = 0
        while not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)

    def signed(self) -> int:
        code = self.unsigned()
        return (code + 1) // 2 if code % 2 else -(code // 2)


def _without_emulation(data: bytes) -> bytes:
    """A NAL unit without the bytes that keep start codes out of it (7.4.1)."""
    return data.replace(b"\0\0\3", b"\0\0")


def _skip_picture_order(bits: _Bits) -> None:
    kind = bits.unsigned()
    if kind == 0:
        bits.unsigned()
    elif kind == 1:
        bits.read(1)
        bits.signed()
        bits.signed()
        for _ in range(bits.unsigned()):
            bits.signed()


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last
