"""The MQTT messages: what stands in them, that they are reproducible, and that the shipped schemas tell the truth."""

from __future__ import annotations

import dataclasses
import json
import math
import uuid
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import inspector.mqtt
from inspector.mqtt.messages import (
    MAX_DETECTIONS,
    MAX_THUMBNAIL_BYTES,
    alarm_message,
    command_result_message,
    counters_message,
    disposition_message,
    escalation_message,
    evidence_message,
    inspection_message,
    make_message_id,
    mark_historical,
    station_root,
    status_message,
)
from inspector.mqtt.payloads import PAYLOADS
from inspector.mqtt.schema_files import load_schema, schema_text, write_schema_files
from inspector.records import (
    Detection,
    Inspection,
    Message,
    PartIdSource,
    Provenance,
    RecipeRef,
    Thresholds,
    Trigger,
    Verdict,
    VerdictKind,
)

ROOT = "inspector/v1"
STATION = "plant/line-1/final"
NOW_US = 1_735_689_600_123_456
NOW_TEXT = "2025-01-01T00:00:00.123456Z"
AN_ID = str(uuid.UUID(int=7))


def make_inspection(**changes: Any) -> Inspection:
    trigger = Trigger(
        station=STATION,
        epoch=1_700_000_000_000_000,
        sequence=42,
        accepted_utc_us=NOW_US - 80_000,
        cameras=("top",),
        part_id="Gehäuse-7 µ",
        part_id_source=PartIdSource.CODE_READER,
        lot="L1",
        request_id="plc-1",
    )
    verdict = Verdict(
        VerdictKind.NG,
        score=3.25,
        thresholds=Thresholds(1.0, 2.0),
        detections=(
            Detection((1, 2, 11, 22), 2.5, "scratch", 120),
            Detection((5, 5, 9, 9), 3.25, "dent", 16, size_px=12.0, region="pads"),
        ),
        reasons=("score above the NG threshold",),
    )
    inspection = Inspection(
        trigger=trigger,
        camera="top",
        verdict=verdict,
        decided_utc_us=NOW_US,
        provenance=Provenance("0.1.0", "c" * 64),
        recipe=RecipeRef("board", 3, "a" * 64),
        captured_utc_us=NOW_US - 70_000,
        frame_sha256="f" * 64,
        frame_width_px=3840,
        frame_height_px=2160,
        frame_key="frames/x.jpg",
        mm_per_px=0.05,
        timings_ms={"score": 31.23456, "register": 4.0},
        truth={"defect": "secret of the simulation"},
    )
    return dataclasses.replace(inspection, **changes)


def make_bare_inspection() -> Inspection:
    verdict = Verdict(VerdictKind.NOT_INSPECTED, score=None, thresholds=None, reasons=("no frame",))
    trigger = Trigger(station=STATION, epoch=1, sequence=1, accepted_utc_us=0, cameras=("top",))
    return Inspection(trigger, "top", verdict, NOW_US, Provenance("0.1.0", "c" * 64))


def every_message() -> list[tuple[str, Message]]:
    """A real message of each outgoing topic, with the name of its schema."""
    address: dict[str, Any] = {"topic_root": ROOT, "station": STATION}
    counts: dict[str, Any] = dict.fromkeys(("ok", "ng", "review", "not_inspected", "late", "pending"), 1)
    return [
        ("inspection", inspection_message(make_inspection(), ROOT)),
        ("inspection", inspection_message(make_bare_inspection(), ROOT)),
        (
            "evidence",
            evidence_message(
                **address,
                inspection_id=AN_ID,
                finished_utc_us=NOW_US,
                visual_key="a/v.png",
                twin_key="a/t.png",
                twin_method="paste",
                thumbnail=b"\xff\xd8",
                base_url="http://edge/evidence/",
            ),
        ),
        (
            "evidence",
            evidence_message(
                **address, inspection_id=AN_ID, finished_utc_us=NOW_US, visual_key=None, reason="frame gone"
            ),
        ),
        (
            "disposition",
            disposition_message(
                **address,
                disposition_id=AN_ID,
                trigger_id=AN_ID,
                disposition="OK",
                cause="review",
                cause_id=AN_ID,
                decided_utc_us=NOW_US,
            ),
        ),
        (
            "escalation",
            escalation_message(**address, opinion_id=AN_ID, inspection_id=AN_ID, verdict="NG", received_utc_us=NOW_US),
        ),
        ("status", status_message(**address, state="online", since_utc_us=0, reasons=(), as_of_utc_us=NOW_US)),
        (
            "status",
            status_message(
                **address, state="offline", since_utc_us=None, reasons=("connection_lost",), as_of_utc_us=None
            ),
        ),
        (
            "counters",
            counters_message(**address, shift="early", since_utc_us=0, as_of_utc_us=NOW_US, triggers=5, **counts),
        ),
        (
            "alarm",
            alarm_message(**address, kind="camera_health", active=True, detail="focus", since_utc_us=NOW_US),
        ),
        ("cmd-result", command_result_message(ROOT, STATION, "pause", "r-1", True, {"paused": True})),
    ]


# --- schemas ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAYLOADS)
def test_shipped_schema_is_the_model(name: str) -> None:
    """The files in the package are what the models say; `python -m inspector.mqtt.schema_files` rewrites them."""
    path = Path(inspector.mqtt.__file__).parent / "schemas" / f"{name}.schema.json"
    assert path.read_text(encoding="utf-8") == schema_text(name)
    jsonschema.Draft202012Validator.check_schema(load_schema(name))


def test_no_schema_file_is_left_over(tmp_path: Path) -> None:
    """Exactly one file a topic ships."""
    shipped = Path(inspector.mqtt.__file__).parent / "schemas"
    assert {path.name for path in write_schema_files(tmp_path)} == {path.name for path in shipped.iterdir()}


@pytest.mark.parametrize("number", range(len(every_message())))
def test_real_messages_satisfy_their_schema(number: int) -> None:
    """Every message that is built is valid, also when it is sent late."""
    name, message = every_message()[number]
    jsonschema.validate(json.loads(message.payload), load_schema(name))
    jsonschema.validate(json.loads(mark_historical(message.payload)), load_schema(name))


def test_every_outgoing_topic_is_covered() -> None:
    """The list above has a message for each schema that is not a command."""
    names = {name for name in PAYLOADS if not name.startswith("cmd-")} | {"cmd-result"}
    assert {name for name, _ in every_message()} == names


@pytest.mark.parametrize("change", [{"verdict": "GOOD"}, {"inspection_id": "7"}, {"decided_utc": "2025-01-01"}])
def test_schema_refuses_what_the_contract_does_not_allow(change: dict[str, Any]) -> None:
    """A wrong verdict, id or time is not valid: the schema is not just decoration."""
    payload = {**json.loads(inspection_message(make_inspection(), ROOT).payload), **change}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(payload, load_schema("inspection"))


# --- inspection -------------------------------------------------------------------------------------


def test_inspection_message_carries_the_contract() -> None:
    """Topic, ids, verdict, boxes in pixels and millimetres, trigger, recipe, frame and times."""
    inspection = make_inspection()
    message = inspection_message(inspection, ROOT)
    payload = json.loads(message.payload)
    assert (message.topic, message.qos, message.retain) == (f"{ROOT}/{STATION}/inspection", 1, False)
    assert message.inspection_id == payload["inspection_id"] == str(inspection.inspection_id)
    assert payload["message_id"] == make_message_id("inspection", str(inspection.inspection_id))
    assert payload["detections"][0] == {
        "box_xyxy_px": [5, 5, 9, 9],
        "box_xyxy_mm": [0.25, 0.25, 0.45, 0.45],
        "score": 3.25,
        "name": "dent",
        "name_confidence": None,
        "area_px": 16,
        "size_mm": 0.6,
        "region": "pads",
    }
    assert payload["trigger"] == {
        "trigger_id": str(inspection.trigger.trigger_id),
        "epoch": 1_700_000_000_000_000,
        "sequence": 42,
        "part_id": "Gehäuse-7 µ",
        "part_id_source": "code_reader",
        "lot": "L1",
        "attempt": 1,
        "purpose": "production",
        "accepted_utc": "2025-01-01T00:00:00.043456Z",
        "request_id": "plc-1",
    }
    assert payload["recipe"] == {"name": "board", "version": 3, "sha256": "a" * 64}
    assert payload["frame"]["sha256"] == "f" * 64
    assert payload["decided_utc"] == NOW_TEXT
    assert payload["timings_ms"] == {"score": 31.235, "register": 4.0}
    assert "secret" not in message.payload


def test_same_inspection_gives_the_same_bytes() -> None:
    """Reprocessing must not create a second payload for an id: keys are sorted, also those of mappings."""
    first = make_inspection(timings_ms={"a": 1.0, "b": 2.0})
    second = make_inspection(timings_ms={"b": 2.0, "a": 1.0})
    text = inspection_message(first, ROOT).payload
    assert text == inspection_message(second, ROOT).payload
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def test_numbers_that_are_not_finite_become_null() -> None:
    """JSON has no NaN: a broken score must not make the message unreadable."""
    verdict = Verdict(
        VerdictKind.REVIEW,
        score=math.nan,
        thresholds=Thresholds(1.0, math.inf),
        detections=(Detection((0, 0, 1, 1), math.inf),),
    )
    inspection = make_inspection(verdict=verdict, timings_ms={"score": math.nan}, registration_confidence=-math.inf)
    payload = json.loads(inspection_message(inspection, ROOT).payload, parse_constant=pytest.fail)
    assert payload["score"] is None
    assert payload["thresholds"] == {"review": 1.0, "ng": None}
    assert payload["detections"][0]["score"] is None
    assert payload["timings_ms"] == {}


def test_undecodable_names_do_not_break_the_message() -> None:
    """A file name that is not UTF-8 arrives with lone surrogates; the payload must still be UTF-8."""
    trigger = dataclasses.replace(make_inspection().trigger, part_id="part\udcff")
    payload = inspection_message(make_inspection(trigger=trigger), ROOT).payload
    assert json.loads(payload.encode("utf-8"))["trigger"]["part_id"] == "part\\udcff"


def test_thousands_of_regions_stay_a_short_message() -> None:
    """The worst come first and the total is told."""
    detections = tuple(Detection((n, 0, n + 1, 1), float(n)) for n in range(5000))
    verdict = Verdict(VerdictKind.NG, score=4999.0, thresholds=Thresholds(1.0, 2.0), detections=detections)
    payload = json.loads(inspection_message(make_inspection(verdict=verdict), ROOT).payload)
    assert len(payload["detections"]) == MAX_DETECTIONS
    assert (payload["detections"][0]["score"], payload["detections_total"]) == (4999.0, 5000)


# --- others -----------------------------------------------------------------------------------------


def test_historical_flag_changes_nothing_else() -> None:
    """`is_historical` belongs to the delivery: without it the bytes are those of the outbox."""
    payload = inspection_message(make_inspection(), ROOT).payload
    late = mark_historical(payload)
    assert json.loads(late) == {**json.loads(payload), "is_historical": True}
    assert late.replace(',"is_historical":true', "") == payload


def test_evidence_links_only_with_a_base_url() -> None:
    """Without a configured server there is a key and no link."""
    with_url, without = (json.loads(message.payload) for name, message in every_message()[2:4])
    assert with_url["visual"] == {"key": "a/v.png", "url": "http://edge/evidence/a/v.png"}
    assert (without["state"], without["visual"], without["reason"]) == ("failed", None, "frame gone")


def test_thumbnail_is_bounded() -> None:
    """More than 32 KB is a mistake of the caller."""
    with pytest.raises(ValueError, match="thumbnail"):
        evidence_message(
            topic_root=ROOT,
            station=STATION,
            inspection_id=AN_ID,
            finished_utc_us=NOW_US,
            visual_key="v",
            thumbnail=bytes(MAX_THUMBNAIL_BYTES + 1),
        )


def test_status_and_counters_are_retained() -> None:
    """A dashboard that connects later must see both at once; counters may get lost, a status must not."""
    messages = dict(every_message())
    assert (messages["status"].qos, messages["status"].retain) == (1, True)
    assert (messages["counters"].qos, messages["counters"].retain) == (0, True)


def test_answer_goes_where_the_request_said() -> None:
    """On the MQTT 5 response topic with its correlation data, else on cmd/<verb>/result."""
    asked = command_result_message(ROOT, STATION, "pause", "r-1", True, {}, "plc/answers", b"\x01")
    plain = command_result_message(ROOT, STATION, "pause", "r-1", False, {"error": "no"})
    assert (asked.topic, asked.correlation) == ("plc/answers", b"\x01")
    assert plain.topic == f"{station_root(ROOT, STATION)}/cmd/pause/result"
    assert json.loads(plain.payload)["detail"] == {"error": "no"}
