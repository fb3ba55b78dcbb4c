"""Part `exposure`: what the trial of low light says, run as it is; missing where this version has none."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import Any

import numpy as np

from tools.twin.judging import DASH, Criterion, PartResult, TrialSettings, table

TRIAL = "tools.exposure_trial"
OURS = "ours"
LEAST_GAIN_DB = 3.0
WAIT_S = 3600


def measure_low_light(settings: TrialSettings) -> PartResult:
    """Rows of the other trial on the same data sets."""
    if importlib.util.find_spec(TRIAL) is None:
        figures: dict[str, Any] = {"missing": f"there is no {TRIAL}"}
        return PartResult(figures, (f"- {figures['missing']}",), judge_low_light(figures))
    out = settings.work / "exposure.json"
    names = [trial_set.name for trial_set in settings.sets]
    folder = settings.sets[0].root.parent
    command = [sys.executable, "-m", TRIAL, str(folder), "--sets", *names, "--out", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=WAIT_S)
    figures = sum_up_low_light(json.loads(out.read_text(encoding="utf-8"))["rows"])
    return PartResult(figures, describe_low_light(figures), judge_low_light(figures))


def sum_up_low_light(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """By set: mean PSNR of ours, and how far it is above the best classical method of each frame."""
    sets: dict[str, Any] = {}
    for name in dict.fromkeys(row["data_set"] for row in rows):
        own = [row["psnr_db"] for row in rows if row["data_set"] == name]
        gains = [found[OURS] - max(value for key, value in found.items() if key != OURS) for found in own]
        sets[name] = {
            "frames": len(own),
            "ours_db": float(np.mean([found[OURS] for found in own])),
            "gain_db": float(np.mean(gains)),
            "least_gain_db": min(gains),
        }
    return {"sets": sets}


def describe_low_light(figures: dict[str, Any]) -> tuple[str, ...]:
    """One row a set."""
    rows = [
        [name, str(found["frames"]), *(f"{found[key]:.2f}" for key in ("ours_db", "gain_db", "least_gain_db"))]
        for name, found in figures["sets"].items()
    ]
    return table(("darkened to 5–15 %", "frames", "ours, PSNR dB", "above the best classical, dB", "least"), rows)


def judge_low_light(figures: dict[str, Any]) -> tuple[Criterion, ...]:
    """The mean over the sets."""
    name, wanted = "low light", f"≥ {LEAST_GAIN_DB:.0f} dB above gain, gamma and CLAHE with non-local means"
    if "sets" not in figures:
        return (Criterion(name, wanted, DASH, None),)
    gains = {key: found["gain_db"] for key, found in figures["sets"].items()}
    mean = float(np.mean(list(gains.values())))
    found = f"{mean:+.2f} dB ({', '.join(f'{key} {value:+.2f}' for key, value in gains.items())})"
    return (Criterion(name, wanted, found, mean >= LEAST_GAIN_DB),)
