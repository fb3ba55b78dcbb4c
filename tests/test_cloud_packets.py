"""Not one byte leaves loopback: the whole service in a network namespace, with every frame on its cable counted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.fit import fit_recipe
from tests.small_line import RECIPE, jpeg_part, teach

PARTS = 4


def has_namespaces() -> bool:
    """Root, `unshare`, `ip`, and a kernel that has namespaces and virtual cables."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    test = "ip link add a0 type veth peer name a1"
    return subprocess.run(["unshare", "--net", "sh", "-c", test], capture_output=True, check=False).returncode == 0


pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(320),
    pytest.mark.skipif(not has_namespaces(), reason="needs root, unshare, ip, and virtual cables in the kernel"),
]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("taught")
    teach(root / "data", root / "good")
    (root / "pictures").mkdir()
    for number in range(PARTS):
        (root / "pictures" / f"{number}.jpg").write_bytes(jpeg_part(number, defect=number % 2 == 0))
    return root


def run_service(taught: Path, work: Path, send: str) -> dict[str, Any]:
    """The service with a provider beyond the cable, and whatever it may ask about."""
    rules = {"send": send, "provider": "far", "audit_share": 1.0, "areas": [{"box_xyxy_px": [60, 50, 260, 190]}]}
    far = {"kind": "webhook", "name": "far", "base_url": "https://10.77.0.9/ask", "secret_env": "TRIAL_SECRET"}
    camera = {"id": "top", "kind": "folder", "path": "incoming", "settle_s": 0.05, "poll_s": 0.05, "after": "move"}
    plant = {
        "site": {"id": "plant"},
        "lines": [{"id": "line1", "stations": [{"id": "st1", "recipe": RECIPE, "cameras": [camera], "cloud": rules}]}],
        "http": {"port": None},
        "store": {"min_free_mb": 10},
        "cloud": {"allowed_hosts": ["10.77.0.9"], "providers": [far]},
    }
    config = work / "plant.yaml"
    config.write_text(json.dumps(plant))
    places = [str(config), str(work / "data"), str(taught / "pictures")]
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "tests.cloud.packets", *places, str(PARTS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=290,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["inspection"] == PARTS and found["evidence"] >= PARTS // 2, found
    return found


def test_with_send_none_nothing_leaves(taught: Path, tmp_path: Path) -> None:
    """Parts are inspected, evidence is made, and the cable stays silent: not one frame."""
    shutil.copytree(taught / "data", tmp_path / "data")
    found = run_service(taught, tmp_path, "none")
    assert (found["frames"], found["bytes"], found["escalation"]) == (0, 0, 0)


def test_of_a_confidential_recipe_nothing_leaves(taught: Path, tmp_path: Path) -> None:
    """The station may send whole frames of everything, and yet nothing is queued and nothing leaves."""
    shutil.copytree(taught / "data", tmp_path / "data")
    fit_recipe(RECIPE, taught / "good", tmp_path / "data", confidential=True)
    found = run_service(taught, tmp_path, "frames")
    assert (found["frames"], found["bytes"], found["escalation"], found["cloud_audit"]) == (0, 0, 0, 0)


def test_otherwise_frames_are_seen(taught: Path, tmp_path: Path) -> None:
    """The same with an ordinary recipe: frames are counted, so a silent cable means something."""
    shutil.copytree(taught / "data", tmp_path / "data")
    found = run_service(taught, tmp_path, "crops")
    assert found["frames"] > 0 and found["escalation"] > 0 and found["cloud_audit"] > 0
