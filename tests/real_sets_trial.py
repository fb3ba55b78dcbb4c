"""Real photographs through the whole product: fit, evaluate, inspect, and the service with a folder camera.

    python -m tests.real_sets_trial FOLDER [NAME ...]

For each data set (MVTec convention): a recipe is fitted from train/good with the defaults and evaluated; twelve
test images are inspected one by one; the same files are then dropped into the folder of a running service with a
real mosquitto. The trial fails unless every file becomes exactly one inspection with the verdict and the score
that `inspect` gave, and every NG or REVIEW gets its evidence.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from inspector.images import IMAGE_SUFFIXES
from tests.mosquitto import Mosquitto
from tests.mqtt_subscriber import Subscriber
from tests.small_line import drop
from tools.measure_accuracy import INSPECTOR, call_inspector

IMAGES_A_SET = 12
DEADLINE_S = 120.0


def choose_images(dataset: Path) -> list[Path]:
    """Test images from all over the set: evenly spaced among the sorted files."""
    found = sorted(path for path in dataset.glob("test/*/*") if path.suffix.lower() in IMAGE_SUFFIXES)
    step = max(1, len(found) // IMAGES_A_SET)
    return found[::step][:IMAGES_A_SET]


def write_config(work: Path, recipe: str, port: int) -> Path:
    camera: dict[str, Any] = {
        "id": "top",
        "kind": "folder",
        "path": str(work / "inbox"),
        "settle_s": 0.05,
        "poll_s": 0.05,
    }
    camera["name_pattern"] = "(?P<part_id>.+)"
    config = {
        "site": {"id": "trial"},
        "lines": [{"id": "line1", "stations": [{"id": "st1", "recipe": recipe, "cameras": [camera]}]}],
        "mqtt": {"port": port},
        "http": {"port": None},
    }
    (work / "inbox").mkdir()
    path = work / "trial.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def drop_through_service(images: list[Path], work: Path, recipe: str) -> dict[str, tuple[str, float | None]]:
    """(verdict, score) by file stem, as the service published them; waits for the evidence as well."""
    broker = Mosquitto(work / "broker")
    broker.start()
    try:
        config = write_config(work, recipe, broker.port)
        with Subscriber(broker.port, "inspector/v1/trial/line1/st1/+") as subscriber:
            command: list[str | Path] = [INSPECTOR, "run", config, "--data-dir", work / "data"]
            with (work / "service.log").open("wb") as log:
                service = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                for number, image in enumerate(images):
                    drop(work / "inbox" / f"{number:03d}{image.suffix.lower()}", image.read_bytes())
                seen = subscriber.wait_for(lambda seen: len(seen) >= len(images) and seen, "/inspection", DEADLINE_S)
                answers = [message.values for message in seen]
                pictured = sum(answer["verdict"] in ("NG", "REVIEW") for answer in answers)
                subscriber.wait_for(lambda seen: len(seen) >= pictured, "/evidence", DEADLINE_S)
            finally:
                service.terminate()
                service.wait(60)
    finally:
        broker.stop()
    if len(answers) != len(images):
        raise SystemExit(f"{len(images)} files became {len(answers)} inspections")
    return {answer["trigger"]["part_id"]: (answer["verdict"], answer["score"]) for answer in answers}


def run_set(dataset: Path, work: Path) -> str:
    """One row of the table; `SystemExit` with the difference when the two ways disagree."""
    recipe, data_dir = dataset.name.lower(), work / "data"
    fitted = call_inspector("fit", recipe, "--good", dataset / "train" / "good", "--data-dir", data_dir)
    measured = call_inspector("evaluate", recipe, "--data", dataset, "--data-dir", data_dir)
    images = choose_images(dataset)
    one_off = call_inspector("inspect", recipe, *images, "--out", work / "visuals", "--data-dir", data_dir)
    expected = {f"{number:03d}": (item["verdict"], item["score"]) for number, item in enumerate(one_off["inspections"])}
    served = drop_through_service(images, work, recipe)
    if served != expected:
        raise SystemExit(f"{dataset.name}: inspect said {expected}, the service {served}")
    kinds = [kind for kind, _ in served.values()]
    counts = " / ".join(str(kinds.count(kind)) for kind in ("OK", "NG", "REVIEW", "NOT_INSPECTED"))
    return (
        f"| {dataset.name} | {fitted['fit_s']:.1f} | {measured['image_auroc']:.3f} | {len(images)} | {counts} | yes |"
    )


def main(folder: Path, names: list[str]) -> None:
    head = "| data set | fit s | image AUROC | files | OK / NG / REVIEW / NOT_INSPECTED | inspect = service |"
    sys.stdout.write(head + "\n" + "|---" * (head.count("|") - 1) + "|\n")
    for dataset in sorted(path for path in folder.iterdir() if (path / "train" / "good").is_dir()):
        if names and dataset.name not in names:
            continue
        work = Path(tempfile.mkdtemp(prefix="real-sets-"))
        try:
            sys.stdout.write(run_set(dataset, work) + "\n")
            sys.stdout.flush()
        finally:
            shutil.rmtree(work)


if __name__ == "__main__":
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_dir():
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:])
