"""Cameras without RTSP: HLS playlists and MJPEG over HTTP. Each can disappear and come back."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


class Silent(SimpleHTTPRequestHandler):
    """Serves files without logging."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


class HlsCamera:
    """A live HLS playlist, written by FFmpeg's muxer and served over HTTP.

    Args:
        segment_s: seconds of a segment.
        n_listed: segments in the playlist; 0 lists all of them.
    """

    def __init__(
        self, folder: Path, pictures: Sequence[Picture], rate: int, segment_s: int = 1, n_listed: int = 4
    ) -> None:
        self.folder, self.pictures, self.rate = folder, pictures, rate
        self.segment_s, self.n_listed = segment_s, n_listed
        folder.mkdir(parents=True, exist_ok=True)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=str(folder)))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._stopping = threading.Event()
        self._running = threading.Event()
        self._running.set()
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/live.m3u8"

    def start(self) -> None:
        """Go live: the playlist appears with its first segment."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def freeze(self) -> None:
        """Stop adding segments, as an encoder that was killed."""
        self._running.clear()

    def thaw(self) -> None:
        """Add segments again."""
        self._running.set()

    def end(self) -> None:
        """End the playlist, as an encoder that is switched off."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(10)

    def close(self) -> None:
        self.thaw()
        self.end()
        self._server.shutdown()
        self._server.server_close()

    def _run(self) -> None:
        flags = {"hls_flags": "delete_segments"} if self.n_listed else {}
        options = {"hls_time": str(self.segment_s), "hls_list_size": str(self.n_listed), **flags}
        with av.open(str(self.folder / "live.m3u8"), "w", format="hls", options=options) as output:
            stream = output.add_stream("libx264", rate=self.rate, options={"crf": "18", "bf": "0"})
            stream.codec_context.gop_size = self.rate * self.segment_s
            stream.height, stream.width = self.pictures[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            start = time.monotonic()
            for k, picture in enumerate(self.pictures):
                if self._stopping.wait(max(0.0, start + k / self.rate - time.monotonic())):
                    break
                if not self._running.is_set():
                    self._running.wait()
                    start = time.monotonic() - k / self.rate
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))


class MjpegCamera:
    """A camera that sends JPEG images as the parts of one endless HTTP response, to any number of clients."""

    def __init__(self, pictures: Sequence[Picture], rate: int) -> None:
        jpegs = [cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes() for picture in pictures]
        self.lost = threading.Event()
        lost = self.lost

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                start = time.monotonic()
                for k in range(10**6):
                    if lost.wait(max(0.0, start + k / rate - time.monotonic())):
                        return
                    jpeg = jpegs[k % len(jpegs)]
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    try:
                        self.wfile.write(head.encode() + jpeg + b"\r\n")
                    except OSError:
                        return

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/video"

    def close(self) -> None:
        self.lost.set()
        self._server.shutdown()
        self._server.server_close()


class HttpStream:
    """Sends the same bytes to each client, at their own pace, without stating their number.

    Args:
        seconds: that the bytes last; 0 sends them at once.
        break_after_s: closes the connection in the middle; None sends all.
    """

    def __init__(self, data: bytes, kind: str, seconds: float, break_after_s: float | None) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.end_headers()
                start, n_sent = time.monotonic(), 0
                while n_sent < len(data):
                    passed = time.monotonic() - start
                    if break_after_s is not None and passed > break_after_s:
                        return
                    n_due = len(data) if not seconds else min(len(data), int((passed + 1) / seconds * len(data)))
                    try:
                        self.wfile.write(data[n_sent:n_due])
                    except OSError:
                        return
                    n_sent = n_due
                    time.sleep(0.05)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/live"

    def __enter__(self) -> HttpStream:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
