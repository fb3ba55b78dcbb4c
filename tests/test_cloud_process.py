"""A vendor's SDK inside the real cloud process: queue, retry, reuse, opinions and the log of what left."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml
from sqlalchemy import update

from inspector.config import load_config
from inspector.store.cloud_audit import verify_audit
from inspector.store.cloud_spend import sum_spend
from inspector.store.frames import FrameFiles
from inspector.store.tables import InspectionRow
from tests.cloud_fakes.openai_api import API_KEY, MODEL, FakeOpenAi
from tests.cloud_fakes.server import Step
from tests.cloud_rig import GOOD, CloudRig
from tests.small_line import RECIPE, folder_camera

KEY_ENV = "TEST_MODELS_KEY"
DONE_S = 60.0


def write_plant(folder: Path, server: FakeOpenAi) -> Path:
    """The small line, with an OpenAI-compatible server that may be asked."""
    models = {
        "kind": "openai_compatible",
        "name": "models",
        "model": MODEL,
        "base_url": f"{server.url}/v1",
        "api_key_env": KEY_ENV,
        "price_input": 1.0,
        "price_cached": 0.1,
        "price_output": 4.0,
    }
    station = {
        "id": "st1",
        "recipe": RECIPE,
        "cameras": [folder_camera(folder / "incoming")],
        "cloud": {
            "send": "crops",
            "provider": "models",
            "audit_share": 0.0,
            "recheck_share": 0.0,
            "reuse_good_lead": 2,
        },
    }
    plant = {
        "site": {"id": "plant"},
        "lines": [{"id": "line1", "stations": [station]}],
        "http": {"port": None},
        "store": {"min_free_mb": 10},
        "cloud": {"allowed_hosts": ["127.0.0.1"], "providers": [models]},
    }
    path = folder / "plant.yaml"
    path.write_text(yaml.safe_dump(plant))
    return path


def test_the_openai_sdk_in_the_cloud_process(taught_plate: Path, tmp_path: Path) -> None:
    """Of three alike parts two are asked, one after a 503 again; every request fits the schema, costs are those of
    the tokens, the third answer is reused, and the process ends when it is told to."""
    shutil.copytree(taught_plate / "data", tmp_path / "data")
    with FakeOpenAi() as server:
        config = write_plant(tmp_path, server)
        server.script.append(Step(status=503))
        rig = CloudRig(tmp_path / "data", load_config(config), lambda question: GOOD)
        for number in range(3):
            rig.inspect(number)
        with rig.db.write() as session:
            session.execute(update(InspectionRow).values(decided_utc_us=time.time_ns() // 1000))
        command = [sys.executable, "-m", "pipelines.child_process", "cloud", config, rig.data_dir, str(os.getpid())]
        process = subprocess.Popen([*map(str, command)], env=os.environ | {KEY_ENV: API_KEY})
        try:
            deadline = time.monotonic() + DONE_S
            while rig.states() != {"answered": 2, "reused": 1} and time.monotonic() < deadline:
                assert process.poll() is None
                time.sleep(0.05)
        finally:
            process.terminate()
            assert process.wait(20) == 0
        details = sorted((opinion.details for opinion in rig.opinions()), key=lambda item: item["cost_micro"])
        (spent,) = sum_spend(rig.db)
        assert verify_audit(rig.db, FrameFiles(tmp_path / "data" / "outgoing").read).rows == 3
        rig.db.close()
        assert (server.violations, len(server.received)) == ([], 3)
    assert rig.asked == [] and [item["same_as"] is not None for item in details] == [True, False, False]
    assert {item["model"] for item in details} == {f"{MODEL}-2026-01-01"}
    for item in details[1:]:
        fresh, cached = item["input_tokens"] - item["cached_tokens"], item["cached_tokens"]
        assert item["cost_micro"] == math.ceil(fresh * 1.0 + cached * 0.1 + item["output_tokens"] * 4.0) > 0
    assert (spent.attempts, spent.money_micro) == (3, sum(item["cost_micro"] for item in details))
