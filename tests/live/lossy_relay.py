"""A relay in front of an RTSP server that loses or damages a share of the RTP packets, as a bad network does.

It speaks RTSP over TCP on both sides and knows the interleaved framing (RFC 2326, 10.12): what it drops is whole RTP
packets of the video, never part of the RTSP dialogue, so the stream goes on with gaps as it does over UDP.
"""

from __future__ import annotations

import random
import socket
import threading
from contextlib import suppress

MARK = b"$"
HEADER_BYTES = 12
"""Of an RTP packet; the payload follows."""


class LossyRelay:
    """Relays connections to a server on this machine.

    Attributes:
        n_packets, n_lost: RTP packets seen, and those dropped or damaged.

    Args:
        target_port: of the server.
        seed: of the losses.
    """

    def __init__(self, target_port: int, seed: int = 0) -> None:
        self.n_packets = self.n_lost = 0
        self._target_port, self._random = target_port, random.Random(seed)
        self._drop_share = self._damage_share = 0.0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._sockets: list[socket.socket] = [self._listening]
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, url: str) -> str:
        """A URL of the server, through the relay."""
        return url.replace(f":{self._target_port}/", f":{self.port}/")

    def set_loss(self, drop_share: float = 0.0, damage_share: float = 0.0) -> None:
        """Drop or damage this share of the RTP packets from now on."""
        self._drop_share, self._damage_share = drop_share, damage_share

    def close(self) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._target_port))
                self._sockets += [client, server]
                threading.Thread(target=self._copy, args=(client, server), daemon=True).start()
                threading.Thread(target=self._copy_with_loss, args=(server, client), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def _copy_with_loss(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError), source.makefile("rb") as stream:
            while first := stream.read(1):
                if first != MARK:
                    target.sendall(first + self._rest_of_message(stream, first))
                    continue
                head = stream.read(3)
                packet = stream.read(int.from_bytes(head[1:], "big"))
                if (relayed := self._relayed(head[0], packet)) is not None:
                    target.sendall(MARK + head + relayed)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def _relayed(self, channel: int, packet: bytes) -> bytes | None:
        if channel % 2:
            return packet
        self.n_packets += 1
        chance = self._random.random()
        if chance < self._drop_share:
            self.n_lost += 1
            return None
        if chance < self._drop_share + self._damage_share and len(packet) > HEADER_BYTES + 8:
            self.n_lost += 1
            damaged = bytearray(packet)
            for _ in range(8):
                damaged[self._random.randrange(HEADER_BYTES + 4, len(damaged))] = self._random.randrange(256)
            return bytes(damaged)
        return packet

    @staticmethod
    def _rest_of_message(stream: object, first: bytes) -> bytes:
        """The rest of an RTSP message: headers, and a body of the stated length."""
        text = first
        while not text.endswith(b"\r\n\r\n"):
            line = stream.readline()  # type: ignore[attr-defined]
            if not line:
                return text[1:]
            text += line
        length = next(
            (int(line.split(b":")[1]) for line in text.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        return (text + (stream.read(length) if length else b""))[1:]  # type: ignore[attr-defined]
