"""Runs the whole service in a network namespace of its own and counts every frame that leaves loopback.

    unshare --net python -m tests.cloud.packets CONFIG DATA_DIR PICTURES WANTED

The namespace has loopback and one end of a virtual cable with the default route; the other end is listened to with a
raw socket, so anything that the kernel sends anywhere (a name to resolve, an address to find, a connection) is seen.
Pictures are dropped into the watched folder one by one. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from inspector.config import FolderCamera, load_config
from inspector.store.database import DATABASE_FILE
from pipelines.logs import configure_logging
from pipelines.supervise import Supervisor
from tests.cloud_fakes.webhook import SECRET
from tests.small_line import drop

OUR_END, OTHER_END = "out0", "wire0"
ADDRESS, GATEWAY = "10.77.0.1/24", "10.77.0.254"
PROVIDER_HOST = "10.77.0.9"
WAIT_S, LONGER_S = 200.0, 2.0
EVERY_PROTOCOL = 0x0003


def lay_cable() -> socket.socket:
    """Loopback up, a cable out, no IPv6 (its own housekeeping would be counted); returns the listening end."""
    Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
    for command in (
        "link set lo up",
        f"link add {OUR_END} type veth peer name {OTHER_END}",
        f"addr add {ADDRESS} dev {OUR_END}",
        f"link set {OTHER_END} up",
        f"link set {OUR_END} up",
        f"route add default via {GATEWAY} dev {OUR_END}",
    ):
        subprocess.run(["ip", *command.split()], check=True)
    listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERY_PROTOCOL))
    listener.bind((OTHER_END, 0))
    listener.setblocking(False)
    return listener


def count_frames(listener: socket.socket) -> tuple[int, int]:
    """(frames, bytes) that arrived at the other end of the cable so far."""
    frames = size = 0
    while True:
        try:
            content = listener.recv(65_536)
        except BlockingIOError:
            return frames, size
        frames, size = frames + 1, size + len(content)


def count_rows(data_dir: Path, table: str) -> int:
    """How many rows a table has; 0 while there is no database."""
    return look_up(data_dir, f"SELECT COUNT(*) FROM {table}")


def look_up(data_dir: Path, query: str) -> int:
    """One number; 0 while there is no database."""
    try:
        with sqlite3.connect(f"file:{data_dir / DATABASE_FILE}?mode=ro", uri=True) as rows:
            found: int = rows.execute(query).fetchone()[0]
            return found
    except sqlite3.OperationalError:
        return 0


def is_worked_off(data_dir: Path, wanted: int, asks: bool) -> bool:
    """Every part inspected, its evidence made, and, where somebody may be asked, looked at by the cloud's process."""
    if count_rows(data_dir, "inspection") < wanted:
        return False
    looked_at = look_up(data_dir, "SELECT COALESCE(SUM(chain_index), 0) FROM cloud_cursor")
    owed = look_up(data_dir, "SELECT COUNT(*) FROM evidence WHERE state = 'pending'")
    tried = look_up(data_dir, "SELECT (SELECT COUNT(*) FROM escalation) = 0 OR (SELECT COUNT(*) FROM cloud_audit) > 0")
    return owed == 0 and (not asks or (looked_at >= wanted and bool(tried)))


def main(config_path: Path, data_dir: Path, pictures: Path, wanted: int) -> dict[str, Any]:
    """Run until everything is worked off and, where there is a question, it was tried; and then some."""
    configure_logging(json_lines=True)
    listener = lay_cable()
    os.environ["TRIAL_SECRET"] = SECRET
    config = load_config(config_path)
    (station,) = config.stations().values()
    (camera,) = station.cameras
    if not isinstance(camera, FolderCamera):
        raise TypeError("the packets' station has a folder camera")
    camera.path.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    service = threading.Thread(target=Supervisor(config, config_path, data_dir).run, args=(stop,))
    service.start()
    deadline = time.monotonic() + WAIT_S
    asks = station.cloud.send != "none"
    while asks and not count_rows(data_dir, "cloud_cursor") and time.monotonic() < deadline:
        time.sleep(0.1)
    for picture in sorted(pictures.iterdir()):
        drop(camera.path / picture.name, picture.read_bytes())
    while not is_worked_off(data_dir, wanted, asks) and time.monotonic() < deadline:
        time.sleep(0.1)
    seen = [count_frames(listener)]
    while count_rows(data_dir, "cloud_audit") and not any(frames for frames, _ in seen) and time.monotonic() < deadline:
        time.sleep(0.1)  # on a busy machine what is logged leaves a little later
        seen.append(count_frames(listener))
    time.sleep(LONGER_S)
    seen.append(count_frames(listener))
    frames, size = (sum(counts) for counts in zip(*seen, strict=True))
    stop.set()
    service.join(60)
    tables = ("inspection", "escalation", "cloud_audit", "evidence")
    looked_at = look_up(data_dir, "SELECT COALESCE(SUM(chain_index), 0) FROM cloud_cursor")
    counts = {table: count_rows(data_dir, table) for table in tables}
    return {"frames": frames, "bytes": size, "looked_at": looked_at, **counts}


if __name__ == "__main__":
    config, data, pictures, wanted = sys.argv[1:]
    sys.stdout.write(json.dumps(main(Path(config), Path(data), Path(pictures), int(wanted))) + "\n")
