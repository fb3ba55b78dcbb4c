"""The evidence lane: pictures for what the database owes, and what happens when there can be none."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inspector.detector.recipe import Recipe
from inspector.detector.recipe_store import RecipeStore
from inspector.errors import RecipeMismatchError
from inspector.images import decode_image, encode_jpeg, sha256_hex
from inspector.records import (
    BgrImage,
    Detection,
    Inspection,
    Provenance,
    Purpose,
    Verdict,
    VerdictKind,
)
from inspector.store.database import Database
from inspector.store.evidence import count_pending, finish_evidence, next_evidence, owe_repaint
from inspector.store.frames import FrameFiles, frame_key
from inspector.store.inspections import commit_inspection, load_inspection
from inspector.store.outbox import next_messages
from inspector.store.processes import list_processes
from inspector.store.reviews import insert_opinion, load_opinion
from inspector.store.stations import ensure_station
from inspector.store.stored import StoredEvidence
from inspector.store.triggers import accept_trigger
from pipelines.evidence import EvidenceLane, make_evidence, name_opinion, run_evidence
from pipelines.inspect_frame import decide_verdict
from reports.cloud_words import brief_opinion
from reports.xmp import read_packet
from tests.small_line import RECIPE, STATION, draw_part, folder_camera, small_plant, teach
from tests.store_samples import small_file_system

NOW_US = 1_777_700_000_000_000


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the small recipe."""
    base = tmp_path_factory.mktemp("taught")
    teach(base / "data", base / "good", images=6)
    return base / "data"


@pytest.fixture
def data_dir(taught: Path, tmp_path: Path) -> Path:
    shutil.copytree(taught, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def db(data_dir: Path) -> Iterator[Database]:
    database = Database.open(data_dir)
    ensure_station(database, STATION, recipe_name=RECIPE, recipe_version=1, now_us=NOW_US)
    yield database
    database.close()


@pytest.fixture
def recipe(data_dir: Path) -> Recipe:
    return RecipeStore(data_dir).load(RECIPE)


@pytest.fixture
def lane(db: Database, data_dir: Path) -> EvidenceLane:
    config = small_plant(folder_camera(data_dir), evidence={"base_url": "http://edge/evidence/"})
    return EvidenceLane(config, db, data_dir, lambda: NOW_US + 5)


def inspect(db: Database, recipe: Recipe, pixels: BgrImage) -> Inspection:
    """An accepted part and what the detector says about it, not yet committed."""
    trigger = accept_trigger(
        db, STATION, accepted_utc_us=NOW_US, cameras=("top",), purpose=Purpose.PRODUCTION, part_id="P-1", lot="L-9"
    ).trigger
    verdict = decide_verdict(recipe.scorer().score_frame(pixels), recipe.thresholds)
    encoded = encode_jpeg(pixels)
    inspection = Inspection(
        trigger=trigger,
        camera="top",
        verdict=verdict,
        decided_utc_us=NOW_US,
        provenance=Provenance("0.1.0", "c" * 64),
        recipe=recipe.ref,
        frame_sha256=sha256_hex(encoded),
        frame_width_px=pixels.shape[1],
        frame_height_px=pixels.shape[0],
    )
    key = frame_key(STATION, NOW_US, inspection.inspection_id, ".jpg")
    FrameFiles(db.data_dir / "frames").write(key, encoded)
    return replace(inspection, frame_key=key)


def owe(db: Database, inspection: Inspection) -> str:
    """Commit an inspection that asks for evidence."""
    assert commit_inspection(db, inspection, (), wants_evidence=True)
    return str(inspection.inspection_id)


def read_evidence(db: Database, inspection_id: str) -> StoredEvidence:
    stored = load_inspection(db, inspection_id)
    assert stored is not None
    assert stored.evidence is not None
    return stored.evidence


def read_messages(db: Database) -> list[dict[str, object]]:
    return [json.loads(entry.message.payload) for entry in next_messages(db, 0, 100)]


def test_a_defect_is_gone_from_the_twin_and_shown_in_the_visual(db: Database, recipe: Recipe) -> None:
    """One image and one recipe are enough: the twin looks like the good part, the visual is a readable JPEG."""
    bad, good = draw_part(3, defect=True), draw_part(3)
    inspection = inspect(db, recipe, bad)
    assert inspection.verdict.kind is VerdictKind.NG

    evidence = make_evidence(bad, recipe, inspection)

    assert evidence.twin_method == "paste"
    assert evidence.twin is not None
    twin = decode_image(evidence.twin)
    spot = np.s_[110:130, 185:205]
    assert np.abs(bad[spot].astype(int) - good[spot]).mean() > 50
    assert np.abs(twin[spot].astype(int) - good[spot]).mean() < 12
    assert decode_image(evidence.visual).shape == (960, 1280, 3)
    assert len(evidence.thumbnail) <= 32 * 1024


def test_without_recipe_or_detections_there_is_no_twin(db: Database, recipe: Recipe) -> None:
    """The visual is made all the same."""
    bad, good = draw_part(4, defect=True), draw_part(4)
    for pixels, known in ((bad, None), (good, recipe)):
        evidence = make_evidence(pixels, known, inspect(db, recipe, pixels))
        assert evidence.twin is None
        assert evidence.twin_method is None
        assert decode_image(evidence.visual).shape == (960, 1280, 3)


def test_a_part_that_cannot_be_registered_is_filled_from_its_surroundings(db: Database, recipe: Recipe) -> None:
    """A negative shows no such part: a good one is not painted over it, and the pictures say why."""
    negative = np.asarray(255 - draw_part(4), np.uint8)
    inspection = inspect(db, recipe, negative)
    reasons = inspection.verdict.reasons
    assert any("registration" in reason for reason in reasons)
    verdict = Verdict(VerdictKind.REVIEW, 1.0, recipe.thresholds, (Detection((10, 10, 60, 60), 1.0),), reasons)
    evidence = make_evidence(negative, recipe, replace(inspection, verdict=verdict))
    assert evidence.twin_method in ("net", "texture", "telea", "ns")
    assert re.fullmatch(r"no reference: registration confidence -?0\.\d\d < 0\.\d\d", str(evidence.twin_fallback))
    assert evidence.twin is not None
    for picture in (evidence.twin, evidence.visual):
        with Image.open(io.BytesIO(picture)) as shown:
            assert read_packet(shown.info["xmp"])["insp:twinFallback"] == evidence.twin_fallback


def test_a_frame_of_another_size_is_refused(db: Database, recipe: Recipe) -> None:
    """The recipe's golden image does not fit: `RecipeMismatchError`."""
    inspection = inspect(db, recipe, draw_part(5, defect=True))
    with pytest.raises(RecipeMismatchError):
        make_evidence(draw_part(5, width_px=640, height_px=480), recipe, inspection)


def test_owed_evidence_is_stored_and_announced_in_one_go(db: Database, recipe: Recipe, lane: EvidenceLane) -> None:
    """Files, keys and message belong together; the message carries links and a thumbnail."""
    inspection_id = owe(db, inspect(db, recipe, draw_part(6, defect=True)))

    assert lane.work_once()
    assert not lane.work_once()

    stored = read_evidence(db, inspection_id)
    assert (stored.state, stored.twin_method) == ("done", "paste")
    pictures = FrameFiles(db.data_dir / "evidence")
    for key in (stored.visual_key, stored.twin_key, stored.thumbnail_key):
        assert key is not None
        assert inspection_id in key
        decode_image(pictures.read(key))
    (message,) = read_messages(db)
    assert message["state"] == "done"
    assert message["inspection_id"] == inspection_id
    assert message["visual"] == {"key": stored.visual_key, "url": f"http://edge/evidence/{stored.visual_key}"}
    assert message["thumbnail"]


def test_the_frame_on_disk_is_never_altered(db: Database, recipe: Recipe, lane: EvidenceLane) -> None:
    """Evidence lies apart from the frame, and the frame keeps the bytes that were hashed."""
    inspection = inspect(db, recipe, draw_part(7, defect=True))
    owe(db, inspection)
    lane.work_once()
    assert inspection.frame_key is not None
    assert sha256_hex(FrameFiles(db.data_dir / "frames").read(inspection.frame_key)) == inspection.frame_sha256


def test_a_lost_frame_is_recorded_and_holds_up_nothing(db: Database, recipe: Recipe, lane: EvidenceLane) -> None:
    """After three attempts it is given up and announced; the next part has been served in the meantime."""
    lost = inspect(db, recipe, draw_part(8, defect=True))
    assert lost.frame_key is not None
    FrameFiles(db.data_dir / "frames").delete(lost.frame_key)
    lost_id, next_id = owe(db, lost), owe(db, inspect(db, recipe, draw_part(9, defect=True)))

    for _ in range(4):
        assert lane.work_once()
    assert not lane.work_once()

    assert read_evidence(db, next_id).state == "done"
    failed = read_evidence(db, lost_id)
    assert failed.state == "failed"
    assert failed.reason is not None
    assert "retention" in failed.reason
    assert [(m["inspection_id"], m["state"]) for m in read_messages(db)] == [(next_id, "done"), (lost_id, "failed")]


def test_the_last_attempt_does_without_the_twin(db: Database, recipe: Recipe, lane: EvidenceLane) -> None:
    """When the twin cannot be painted, the third attempt still explains the part."""
    inspection = inspect(db, recipe, draw_part(10, defect=True))
    assert inspection.frame_key is not None
    other_size = encode_jpeg(draw_part(10, width_px=640, height_px=480))
    FrameFiles(db.data_dir / "frames").write(inspection.frame_key, other_size)
    inspection_id = owe(db, inspection)

    for _ in range(3):
        assert lane.work_once()

    stored = read_evidence(db, inspection_id)
    assert (stored.state, stored.attempts, stored.twin_key) == ("done", 2, None)


def test_a_recipe_that_is_gone_costs_only_the_twin(
    db: Database, recipe: Recipe, lane: EvidenceLane, data_dir: Path
) -> None:
    """The visual is made from the frame and the row alone."""
    inspection_id = owe(db, inspect(db, recipe, draw_part(11, defect=True)))
    shutil.rmtree(data_dir / "recipes")

    assert lane.work_once()

    stored = read_evidence(db, inspection_id)
    assert (stored.state, stored.twin_key) == ("done", None)
    assert stored.visual_key is not None


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_waited_for(db: Database, recipe: Recipe, lane: EvidenceLane, data_dir: Path) -> None:
    """No attempt is lost while the disk is full; the heartbeat says so; with space the pictures are made."""
    inspection_id = owe(db, inspect(db, recipe, draw_part(14, defect=True)))
    with small_file_system(data_dir / "evidence", "16k"):
        assert not lane.work_once()
        assert "space" in str(lane.problem)
        stored = read_evidence(db, inspection_id)
        assert (stored.state, stored.attempts) == ("pending", 0)

    assert lane.work_once()
    assert str(lane.problem) == "None"
    assert read_evidence(db, inspection_id).state == "done"


def test_the_process_works_off_what_is_owed_and_says_how_it_is(db: Database, recipe: Recipe, data_dir: Path) -> None:
    """`run_evidence` serves several parts, beats, and stops when asked."""
    owed = [owe(db, inspect(db, recipe, draw_part(number, defect=True))) for number in (12, 13)]
    stop = threading.Event()
    worker = threading.Thread(target=run_evidence, args=(small_plant(folder_camera(data_dir)), data_dir, stop))
    worker.start()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(read_evidence(db, item).state == "pending" for item in owed):
        time.sleep(0.02)
    states = [(row.process, row.state) for row in list_processes(db)]
    stop.set()
    worker.join(10)

    assert [read_evidence(db, item).state for item in owed] == ["done", "done"]
    assert states == [("evidence", "online")]
    assert [(row.process, row.state) for row in list_processes(db)] == [("evidence", "offline")]
    assert not worker.is_alive()


def record_opinion(db: Database, inspection_id: str) -> None:
    """As the cloud's process does it, in one transaction."""
    with db.write() as session:
        details = {"model": "tester-1", "defect_name": "dent"}
        opinion_id = name_opinion(inspection_id)
        assert insert_opinion(session, opinion_id, inspection_id, verdict="defect", details=details, now_us=NOW_US)
        owe_repaint(session, inspection_id, NOW_US)
        opinion = load_opinion(session, opinion_id)
    assert opinion is not None and brief_opinion(opinion) == "cloud: a defect, dent"


def shows_another_line(one: BgrImage, other: BgrImage) -> bool:
    """Whether two visuals of the same part differ in their heads."""
    changed = np.abs(one.astype(int) - other.astype(int)).max(axis=2) > 60
    return int(changed[: changed.shape[0] // 4].sum()) > 400


def test_an_opinion_that_came_first_stands_in_the_picture(db: Database, recipe: Recipe, lane: EvidenceLane) -> None:
    """The same part is painted with a line more when the cloud has answered by then, and is not owed again."""
    pixels = draw_part(3, defect=True)
    inspection = inspect(db, recipe, pixels)
    part = owe(db, inspection)
    assert lane.work_once()
    answered = owe(db, replace(inspect(db, recipe, pixels), verdict=inspection.verdict))
    record_opinion(db, answered)
    assert lane.work_once() and not lane.work_once()
    assert shows_another_line(read_visual(db, part), read_visual(db, answered))


def test_an_opinion_that_came_later_is_painted_then(db: Database, recipe: Recipe, lane: EvidenceLane) -> None:
    """After everything that has no picture yet; the file keeps its name, and the message is repeated as it was."""
    part = owe(db, inspect(db, recipe, draw_part(3, defect=True)))
    assert lane.work_once()
    before, twin = read_visual(db, part), read_evidence(db, part)
    record_opinion(db, part)
    assert read_evidence(db, part).state == "repaint" and read_evidence(db, part).visual_key == twin.visual_key
    other = owe(db, inspect(db, recipe, draw_part(4, defect=True)))
    assert lane.work_once() and read_evidence(db, other).state == "done" and count_pending(db) == 1
    assert lane.work_once() and not lane.work_once()
    assert read_evidence(db, part) == twin and shows_another_line(before, read_visual(db, part))
    first, _, repeated = read_messages(db)
    assert first == repeated and first["inspection_id"] == part


def test_an_opinion_that_came_while_it_was_painted_is_not_forgotten(db: Database, recipe: Recipe) -> None:
    """It was recorded between the reading of the opinion and the end of the painting: the picture is owed again."""
    part = owe(db, inspect(db, recipe, draw_part(3, defect=True)))
    assert next_evidence(db) is not None
    record_opinion(db, part)
    assert finish_evidence(
        db,
        part,
        visual_key="a/v.jpg",
        twin_key=None,
        thumbnail_key=None,
        twin_method=None,
        messages=(),
        now_us=NOW_US,
        unpainted_opinion_id=name_opinion(part),
    )
    task = next_evidence(db)
    assert task is not None and task.repaint


def test_a_picture_that_cannot_be_painted_again_stays(db: Database, recipe: Recipe, lane: EvidenceLane) -> None:
    """The frame is gone by then: after three attempts the visual of before is still there, and nothing is announced."""
    inspection = inspect(db, recipe, draw_part(3, defect=True))
    part = owe(db, inspection)
    assert lane.work_once() and inspection.frame_key is not None
    before = read_visual(db, part)
    FrameFiles(db.data_dir / "frames").delete(inspection.frame_key)
    record_opinion(db, part)
    assert [lane.work_once() for _ in range(4)] == [True, True, True, False]
    assert read_evidence(db, part).state == "done" and len(read_messages(db)) == 1
    assert np.array_equal(read_visual(db, part), before)


def read_visual(db: Database, inspection_id: str) -> BgrImage:
    key = read_evidence(db, inspection_id).visual_key
    assert key is not None
    return decode_image(FrameFiles(db.data_dir / "evidence").read(key))
