"""`inspector cloud audit|report|simulate`: what left and whether that is proven, what it cost, what it would cost."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import update
from typer.testing import CliRunner, Result

from inspector.cloud.looks import take_look
from inspector.cloud.simulation import Policy, Prices, RecordedPart, compare_policies, simulate_policy
from inspector.cloud_settings import StationCloudConfig, WebhookProvider
from inspector.config import PlantConfig
from inspector.errors import ChainBrokenError, InputError, StoreError
from inspector.images import decode_image
from inspector.records import VerdictKind
from inspector.store.cloud_tables import CloudAuditRow
from pipelines.cloud_audit import audit_cloud
from pipelines.cloud_report import report_cloud
from pipelines.cloud_simulate import simulate_recorded
from pipelines.command_line import app
from pipelines.report import write_report
from pipelines.review import review_inspection
from tests.cloud_rig import DEFECT, GOOD, PRICES, blot, cloud_plant, open_rig
from tests.small_line import STATION, draw_part

THERE = (90, 110, 110, 130)


@pytest.fixture(scope="module")
def asked(taught_plate: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory after a small shift: eight parts, three questions asked, one answer reused."""
    root = tmp_path_factory.mktemp("asked")
    shutil.copytree(taught_plate / "data", root / "data")
    numbers = iter(range(100))
    with open_rig(root / "data", say=lambda question: GOOD if next(numbers) == 0 else DEFECT) as rig:
        for number in range(4):
            rig.inspect(number, VerdictKind.OK)
        rig.inspect(10, VerdictKind.NG, pixels=blot(10, 100, 120), boxes=(THERE,), part_id="N-1")
        rig.run()
        first, second = rig.inspect(11, part_id="<b>R-1</b>"), rig.inspect(12)
        rig.inspect(13, pixels=blot(13, 230, 120), boxes=((220, 110, 240, 130),))
        assert rig.run() == 2
        review_inspection(str(first.inspection_id), "defect", root / "data", reviewer="Ann")
        review_inspection(str(second.inspection_id), "good", root / "data", reviewer="Ann")
    return root / "data"


@pytest.fixture
def data_dir(asked: Path, tmp_path: Path) -> Path:
    shutil.copytree(asked, tmp_path / "data")
    return tmp_path / "data"


def write_config(folder: Path, config: PlantConfig) -> Path:
    path = folder / "plant.yaml"
    path.write_text(yaml.safe_dump(json.loads(config.model_dump_json())))
    return path


def invoke(*arguments: str) -> Result:
    """A command in this process."""
    return CliRunner().invoke(app, ["cloud", *arguments])


def call(*arguments: str) -> dict[str, Any]:
    """The JSON that a command prints."""
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


# --- audit ------------------------------------------------------------------------------------------


def test_audit_lists_verifies_and_exports(data_dir: Path, tmp_path: Path) -> None:
    """Every departure is listed with its hash; the export holds the rows, the questions and the very pictures."""
    folder = tmp_path / "export"
    value = call("audit", "--data-dir", str(data_dir), "--export", str(folder), "--last", "2")
    assert (value["rows"], value["intact"], value["files_checked"]) == (3, True, 3)
    assert [entry["position"] for entry in value["entries"]] == [2, 3]
    rows = [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]
    assert [row["reason"] for row in rows] == ["new_looking", "review", "review"] and rows[1:] == value["entries"]
    pictures = sorted(folder.glob("*/*.jpg"))
    assert len(pictures) == 3 and all(decode_image(path.read_bytes()).size for path in pictures)
    with pytest.raises(InputError, match="exists already"):
        audit_cloud(data_dir, station=None, last=1, export=folder)
    assert call("audit", "--data-dir", str(data_dir), "--station", "plant/line1/other")["entries"] == []


def test_audit_finds_tampering(data_dir: Path) -> None:
    """A changed row and a changed file each end the command with the row's number and exit status 1."""
    with open_rig(data_dir) as rig, rig.db.write() as session:
        session.execute(update(CloudAuditRow).where(CloudAuditRow.position == 2).values(destination="https://x:1"))
    with pytest.raises(ChainBrokenError, match="row 2"):
        audit_cloud(data_dir, station=None, last=1, export=None)
    assert invoke("audit", "--data-dir", str(data_dir)).exit_code == 1
    with open_rig(data_dir) as rig, rig.db.write() as session:
        value = {"destination": "http://127.0.0.1:9"}
        session.execute(update(CloudAuditRow).where(CloudAuditRow.position == 2).values(value))
    question = next((data_dir / "outgoing").rglob("*-question-1.json"))
    question.write_bytes(question.read_bytes() + b" ")
    with pytest.raises(ChainBrokenError, match=r"the file .* was changed"):
        audit_cloud(data_dir, station=None, last=1, export=None)


def test_no_database_is_said(tmp_path: Path) -> None:
    """Each of the three commands names the folder without a database instead of making one."""
    with pytest.raises(StoreError, match="no database"):
        audit_cloud(tmp_path, station=None, last=1, export=None)
    with pytest.raises(StoreError, match="no database"):
        report_cloud(cloud_plant(), tmp_path)
    with pytest.raises(StoreError, match=r"no inspector\.db"):
        simulate_recorded(cloud_plant(), tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- report -----------------------------------------------------------------------------------------


def test_report_counts_what_was_asked(data_dir: Path, tmp_path: Path) -> None:
    """Share at the edge, opinions against verdicts, money so far, and what asking about everything would cost."""
    config = write_config(tmp_path, cloud_plant())
    value = call("report", str(config), "--data-dir", str(data_dir), "--out", str(tmp_path / "cloud.html"))
    (station,) = value["stations"]
    assert (station["station"], station["inspections"], station["asked"], station["reused"]) == (STATION, 8, 3, 1)
    assert station["at_the_edge"] == 5 / 8 and station["requests"] == 3
    one = (600 * 1.0 + 300 * 0.1 + 40 * 4.0) / 1e6
    assert station["money"] == pytest.approx(3 * one) and station["money_everything"] == pytest.approx(8 * one)
    assert value["opinions"] == {"NG good": 1, "REVIEW defect": 3} and value["agreement"] == 0.0


def test_report_page_is_self_contained_and_escaped(data_dir: Path, tmp_path: Path) -> None:
    """The page shows the pictures that were sent, runs nothing, loads nothing, and no name becomes markup."""
    out = tmp_path / "cloud.html"
    summary = report_cloud(cloud_plant(), data_dir, out=out)
    page = out.read_text(encoding="utf-8")
    assert len(summary.report.disagreements) == 1 and page.count("data:image/jpeg;base64,") == 4
    assert "<b>R-1" not in page and "&lt;b&gt;R-1" in page and "<script" not in page and "http://" not in page
    assert "never changes a verdict" in page and "Nothing to see." in page


def test_opinions_stand_in_the_shift_report(data_dir: Path, tmp_path: Path) -> None:
    """The HTML report shows the opinion beside the verdict, named as one."""
    write_report(cloud_plant(), data_dir, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("Cloud opinion (scripted-1") == 4 and page.count("(reused)") == 1


# --- simulate ---------------------------------------------------------------------------------------


def test_simulate_replays_a_recording(data_dir: Path, tmp_path: Path) -> None:
    """From recorded inspections to the table of policies: what reviews know is the truth, duplicates are seen."""
    config = write_config(tmp_path, cloud_plant({"recheck_share": 0.0}))
    value = call("simulate", str(config), "--inspections", str(data_dir / "inspector.db"))
    assert (value["inspections"], value["truth_known"], value["defective"]) == (8, 2, 1)
    oracle = {item["policy"]: item for item in value["clouds"][0]["policies"]}
    assert {name: item["calls"] for name, item in oracle.items()} == {
        "everything": 8,
        "REVIEW": 3,
        "REVIEW + reuse + cache": 2,
        "REVIEW + audit": 3,
        "REVIEW + audit + reuse + cache": 2,
    }
    assert oracle["everything"]["bytes"] > oracle["REVIEW"]["bytes"] > oracle["REVIEW + reuse + cache"]["bytes"] > 0
    assert oracle["everything"]["money"] > oracle["REVIEW"]["money"] > oracle["REVIEW + reuse + cache"]["money"] > 0
    assert all(item["missed"] == 0 for item in oracle.values()) and len(value["assumptions"]) == 4


def test_simulate_needs_prices(data_dir: Path) -> None:
    """Without any provider there is nothing to calculate with."""
    plain = cloud_plant({"send": "none", "provider": None})
    with pytest.raises(InputError, match="provider"):
        simulate_recorded(plain.model_copy(update={"cloud": type(plain.cloud)()}), data_dir)


HOOK = WebhookProvider.model_validate({"name": "h", "base_url": "https://h.example", "secret_env": "S", **PRICES})
PRICE = Prices(HOOK, "low", context_tokens=300, text_tokens=20, answer_tokens=50)


def part(key: str, verdict: VerdictKind, defective: bool, number: int = 1) -> RecordedPart:
    looks = (take_look(draw_part(number, defect=True), (183, 108, 207, 132)),)
    return RecordedPart(key, "top", "plate", verdict, defective, looks, 1, 1000, 500, 0)


REVIEW, OK, NG = VerdictKind.REVIEW, VerdictKind.OK, VerdictKind.NG
ALL, ALONE, BOTH = (
    Policy("all", everything=True),
    Policy("review"),
    Policy("both", reuse=True, cache=True, recheck_share=0.0),
)


def test_what_a_policy_misses() -> None:
    """A defect called OK is missed unless it was asked about; a REVIEW only if the cloud is wrong; an NG never."""
    parts = [part("a", OK, True), part("b", REVIEW, True), part("c", NG, True), part("d", OK, False)]
    assert simulate_policy(parts, ALL, PRICE).missed == ()
    assert simulate_policy(parts, ALONE, PRICE).missed == ("a",)
    assert simulate_policy(parts, ALONE, PRICE, right_share=0.0).missed == ("a", "b")
    assert simulate_policy(parts, Policy("audit", audit_share=1.0), PRICE).missed == ()


def test_reuse_and_cache_save_what_they_should() -> None:
    """Near-duplicates cost nothing; cached context is cheaper and not sent again; both together add up."""
    parts = [part(str(number), REVIEW, True, number) for number in range(4)]
    plain, both = simulate_policy(parts, ALONE, PRICE), simulate_policy(parts, BOTH, PRICE)
    cached = simulate_policy(parts, Policy("cache", cache=True), PRICE)
    assert (plain.calls, plain.size_bytes, plain.money_micro) == (4, 6000, 4 * (300 + 20 + 280 + 200))
    assert (cached.calls, cached.size_bytes, cached.money_micro) == (4, 4500, 800 + 3 * (30 + 300 + 200))
    assert (both.calls, both.reused, both.size_bytes, both.money_micro) == (1, 3, 1500, 800)


def test_a_reused_wrong_answer_is_counted() -> None:
    """When the first answer was wrong, every near-duplicate of it is missed too: nothing is made to look better."""
    parts = [part(str(number), REVIEW, True, number) for number in range(3)]
    assert simulate_policy(parts, BOTH, PRICE, right_share=0.0).missed == ("0", "1", "2")
    mixed = [part("good", REVIEW, False), replace(part("bad", REVIEW, True), looks=part("x", REVIEW, True).looks)]
    first = replace(BOTH, reuse_good_lead=1)
    assert simulate_policy(mixed, first, PRICE).missed == ("bad",) and simulate_policy(mixed, ALONE, PRICE).missed == ()
    assert simulate_policy(mixed, BOTH, PRICE).missed == ()
    thrice = [replace(mixed[0], key=str(number)) for number in range(3)]
    assert simulate_policy([*thrice, mixed[1]], BOTH, PRICE).missed == ("bad",)


def test_good_parts_that_a_reused_answer_stops_are_counted() -> None:
    """One wrong `defect` stops every near-duplicate until one of them is asked again; an NG the edge stops itself."""
    parts = [part(str(number), REVIEW, False, number) for number in range(4)]
    wrong = simulate_policy([*parts, part("n", NG, False)], BOTH, PRICE, right_share=0.0)
    assert wrong.calls == 1 and wrong.overkill == ("0", "1", "2", "3") and wrong.missed == ()
    assert simulate_policy(parts, replace(BOTH, recheck_share=1.0), PRICE).reused == 0
    assert simulate_policy([*parts, part("o", OK, False)], ALL, PRICE, right_share=0.0).overkill[-1] == "o"


def test_every_comparison_has_the_four_policies() -> None:
    """Everything, REVIEW, with audit, and with everything that saves."""
    names = [policy.name for policy in compare_policies(StationCloudConfig(reuse_good_lead=7))]
    assert {"everything", "REVIEW", "REVIEW + audit", "REVIEW + audit + reuse + cache"} <= set(names)
