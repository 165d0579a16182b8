"""An RTSP server for the tests, run by the system's Python: `rtsp_server.py PORT NAME=FILE.mp4 ...`."""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(sys.argv[1])
for mount in sys.argv[2:]:
    name, _, path = mount.partition("=")
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        f'( filesrc location="{path}" ! qtdemux ! h264parse config-interval=-1 ! rtph264pay name=pay0 pt=96 )'
    )
    server.get_mount_points().add_factory(f"/{name}", factory)
if not server.attach(None):
    sys.exit("cannot listen")
print("listening", flush=True)
GLib.MainLoop().run()
