"""GStreamer's RTSP server, from Debian, in a process of its own: H.264 on loopback at /line."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

from tests.mosquitto import find_free_port

SYSTEM_PYTHON = "/usr/bin/python3"

WHITE = "videotestsrc is-live=true pattern=white ! video/x-raw,format=I420,width=320,height=240,framerate=20/1"
RTSP_SERVER = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer(); server.set_address("127.0.0.1"); server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory(); factory.set_shared(True)
factory.set_launch("( " + sys.argv[2] + " ! x264enc tune=zerolatency speed-preset=ultrafast "
    "key-int-max=5 ! rtph264pay name=pay0 pt=96 )")
if len(sys.argv) > 3:
    auth = GstRtspServer.RTSPAuth(); token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(sys.argv[3], sys.argv[4]), token); server.set_auth(auth)
    rights = GstRtspServer.RTSPPermissions()
    rights.add_permission_for_role("user", "media.factory.access", True)
    rights.add_permission_for_role("user", "media.factory.construct", True)
    factory.set_permissions(rights)
server.get_mount_points().add_factory("/line", factory); server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
"""


def has_rtsp_server() -> bool:
    if not Path(SYSTEM_PYTHON).exists() or shutil.which("gst-inspect-1.0") is None:
        return False
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    found = subprocess.run([SYSTEM_PYTHON, "-c", probe], capture_output=True, check=False).returncode == 0
    return found and subprocess.run(["gst-inspect-1.0", "x264enc"], capture_output=True, check=False).returncode == 0


class RtspServer:
    """Serves a GStreamer `source`, by default 20 white frames of 320x240 a second."""

    def __init__(self, *credentials: str, source: str = WHITE) -> None:
        self.port = find_free_port()
        self._source = source
        self._credentials = credentials
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/line"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [SYSTEM_PYTHON, "-c", RTSP_SERVER, str(self.port), self._source, *self._credentials],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None


def play_video(path: Path) -> str:
    """The source that plays a Motion-JPEG AVI file."""
    return f"filesrc location={path} ! avidemux ! jpegdec ! videoconvert ! video/x-raw,format=I420"
