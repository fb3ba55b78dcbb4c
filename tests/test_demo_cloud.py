"""`inspector demo --cloud`: the whole line with second opinions, from an oracle that checks who asks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from inspector.cloud.provider import ProviderRefusedError, Question, QuestionImage
from inspector.cloud.webhook import WebhookProvider, WebhookSettings
from inspector.config import load_config
from inspector.store.database import Database
from pipelines import demo
from pipelines.demo import run_demo, write_demo_config
from pipelines.demo_cloud import MODEL, NOTE, DemoOracle, answer_from_truth
from pipelines.supervise import Supervisor
from tests.small_line import call_inspector

PARTS = 12
QUESTION = Question("0" * 36, "1" * 32, "Is it good?", "Look.", (QuestionImage("part", b"x", "image/jpeg"),), "low")


@pytest.fixture
def oracle(tmp_path: Path) -> Iterator[DemoOracle]:
    Database.open(tmp_path).close()
    with DemoOracle(tmp_path) as serving:
        yield serving


def ask(oracle: DemoOracle, *, secret: str | None = None, late_s: float = 0.0) -> ProviderRefusedError:
    settings = WebhookSettings(url=oracle.url, secret=secret or oracle.secret)
    with pytest.raises(ProviderRefusedError) as refused:
        WebhookProvider(settings, clock=lambda: time.time() - late_s).ask(QUESTION, 10.0)
    return refused.value


@pytest.mark.timeout(240)
def test_the_demo_asks_for_second_opinions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question is answered and published, the log verifies, and both pages say that no model was asked."""
    monkeypatch.setattr(demo, "GOOD_IMAGES", 10)
    outcome = run_demo(tmp_path, PARTS, quiet=True, cloud=True, size=(640, 480))
    cloud = outcome.to_json()["cloud"]
    assert (outcome.lost, outcome.parts, cloud["open"], cloud["not_answered"]) == (0, PARTS, 0, 0)
    assert cloud["asked"] > 0 and cloud["answered"] == sum(cloud["opinions"].values()) == outcome.messages["escalation"]
    assert cloud["audit_rows"] == cloud["audit_files"] == cloud["asked"] and cloud["bytes_sent"] > 0
    assert cloud["money"] == pytest.approx(0.002 * cloud["asked"])
    assert cloud["everything"] == pytest.approx(0.002 * PARTS)
    page, report = ((tmp_path / name).read_text() for name in ("cloud.html", "report.html"))
    assert NOTE.replace("'", "&#39;") in page
    assert f"Cloud opinion ({MODEL}, 100%)" in report and "A simulated oracle, no model" in report


def test_without_it_nothing_is_asked(tmp_path: Path, oracle: DemoOracle) -> None:
    """The demo's configuration has no word about a cloud by default, so that no process for it is started."""
    for asked, expected in ((None, False), (oracle, True)):
        path = write_demo_config(tmp_path, 1883, PARTS, (640, 480), asked)
        kinds = {child.kind for child in Supervisor(load_config(path), path, tmp_path).children}
        assert ("cloud" in path.read_text()) is ("cloud" in kinds) is expected


def test_the_oracle_checks_the_signature(oracle: DemoOracle) -> None:
    """Another key and an old question get 401; a signed question that the ledger does not know gets 404."""
    other = "whsec_" + "A" * 43 + "="
    assert ask(oracle, secret=other).status == 401
    assert ask(oracle, late_s=400.0).status == 401
    assert ask(oracle).status == 404


def test_the_oracle_says_what_the_line_did() -> None:
    """Right about every simulated part, never without saying what it is, and nothing where nobody knows."""
    bad = answer_from_truth({"defective": True, "defects": [{"kind": "scratch"}, {"kind": "crack"}]})
    good, unknown = answer_from_truth({"defective": False, "defects": []}), answer_from_truth(None)
    assert (bad.verdict, bad.defect_name, good.verdict, unknown.verdict) == ("defect", "crack", "good", "unsure")
    assert all("simulated oracle, no model" in answer.reason for answer in (bad, good, unknown))


def test_the_command_offers_it() -> None:
    """`inspector demo --cloud` is a switch, off by default."""
    text = " ".join(call_inspector("demo", "--help").stdout.split())
    assert "--cloud" in text and "simulated" in text
