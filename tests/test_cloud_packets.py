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
from tests.small_line import RECIPE, jpeg_part

PARTS = 4
CASES = ("none", "confidential", "crops")


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
def found(taught_plate: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """{case: what was counted}: three services at the same time, each in a network namespace of its own."""
    root = tmp_path_factory.mktemp("packets")
    (root / "pictures").mkdir()
    for number in range(PARTS):
        (root / "pictures" / f"{number}.jpg").write_bytes(jpeg_part(number, defect=number % 2 == 0))
    running = {
        case: start_service(taught_plate, root / case, root / "pictures", case)
        for case in ("none", "confidential", "crops")
    }
    counts: dict[str, dict[str, Any]] = {}
    for case, process in running.items():
        output, errors = process.communicate(timeout=290)
        assert process.returncode == 0, errors[-3000:]
        counts[case] = json.loads(output.splitlines()[-1])
        assert counts[case]["inspection"] == PARTS and counts[case]["evidence"] >= PARTS // 2, counts[case]
    return counts


def start_service(taught: Path, work: Path, pictures: Path, case: str) -> subprocess.Popen[str]:
    """The service with a provider beyond the cable, and whatever it may ask about."""
    shutil.copytree(taught / "data", work / "data")
    if case == "confidential":
        fit_recipe(RECIPE, taught / "good", work / "data", confidential=True)
    send = "frames" if case == "confidential" else case
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
    places = [str(config), str(work / "data"), str(pictures)]
    return subprocess.Popen(
        ["unshare", "--net", sys.executable, "-m", "tests.cloud.packets", *places, str(PARTS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_with_send_none_nothing_leaves(found: dict[str, dict[str, Any]]) -> None:
    """Parts are inspected, evidence is made, and the cable stays silent: not one frame."""
    none = found["none"]
    assert (none["frames"], none["bytes"], none["escalation"]) == (0, 0, 0)


def test_of_a_confidential_recipe_nothing_leaves(found: dict[str, dict[str, Any]]) -> None:
    """The station may send whole frames of everything, every part was looked at, and yet nothing leaves."""
    secret = found["confidential"]
    assert secret["looked_at"] == PARTS
    assert (secret["frames"], secret["bytes"], secret["escalation"], secret["cloud_audit"]) == (0, 0, 0, 0)


def test_otherwise_frames_are_seen(found: dict[str, dict[str, Any]]) -> None:
    """The same with an ordinary recipe: frames are counted, so a silent cable means something."""
    crops = found["crops"]
    assert crops["frames"] > 0 and crops["escalation"] > 0 and crops["cloud_audit"] > 0
