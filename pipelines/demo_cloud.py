"""The demo's cloud: a signed webhook on loopback that knows what the simulated line did to each part.

It is an oracle, not a model: it checks the signature and the question as a receiver should, looks at no picture, and
answers from the demo's own ledger. What it says proves that questions and answers find their way, and nothing about
real models; each of its answers says so itself.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError
from sqlalchemy import select

from inspector.cloud.budget import MICRO
from inspector.cloud.provider import Answer
from inspector.cloud.webhook import SECRET_PREFIX, WebhookQuestion, WebhookReply, decode_secret, sign
from inspector.config import PlantConfig
from inspector.store.database import Database
from inspector.store.escalations import load_escalation
from inspector.store.stored import load_stored
from inspector.store.tables import InspectionRow
from pipelines.cloud_audit import audit_cloud
from pipelines.cloud_report import report_cloud

LOOPBACK = "127.0.0.1"
SECRET_ENV = "INSPECTOR_DEMO_SECRET"
MODEL = "simulated oracle"
PRICE_REQUEST = 0.002
"""EUR a question: about what a small vision model asks for four crops."""
AUDIT_SHARE = 0.1
"""Far more than a plant would draw, so that sixty parts have some."""
TOLERANCE_S = 300
MAX_BODY_BYTES = 20_000_000
NOTE = (
    "The answers on this page come from the demo's simulated oracle, which looks at no picture: it knows what the "
    "simulated line did to each part. They prove nothing about real models. The price is assumed, too: "
    f"{PRICE_REQUEST} EUR a question."
)


class QuestionRefusedError(Exception):
    """A request that is no question, or of somebody else; `status` is what the asker gets."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class DemoOracle:
    """Answers while it is entered; `secret` signs the questions, `data_dir` holds the ledger of the line."""

    def __init__(self, data_dir: Path) -> None:
        self.secret = SECRET_PREFIX + b64encode(secrets.token_bytes(32)).decode("ascii")
        self._data_dir = data_dir
        self._server = ThreadingHTTPServer((LOOPBACK, 0), _handler_of(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="oracle", daemon=True)

    @property
    def url(self) -> str:
        """Where questions are posted to."""
        return f"http://{LOOPBACK}:{self._server.server_address[1]}/opinion"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def reply(self, headers: Mapping[str, str], body: bytes) -> bytes:
        """The answer to a request, `headers` with names in lower case. Raises `QuestionRefusedError`."""
        check_signature(self.secret, headers, body)
        try:
            question = WebhookQuestion.model_validate_json(body)
        except ValidationError as error:
            raise QuestionRefusedError(400, f"not a question: {error.error_count()} fields are wrong") from error
        if question.escalation_id != headers["webhook-id"]:
            raise QuestionRefusedError(400, "webhook-id is that of another question")
        answer = answer_from_truth(self._find_truth(question.escalation_id))
        return WebhookReply(answer=answer, model=MODEL).model_dump_json().encode()

    def _find_truth(self, escalation_id: str) -> dict[str, Any] | None:
        db = Database.open(self._data_dir)
        try:
            with db.read() as session:
                escalation = load_escalation(session, escalation_id)
                if escalation is None:
                    raise QuestionRefusedError(404, "the ledger knows no such question")
                wanted = select(InspectionRow).where(InspectionRow.inspection_id == escalation.inspection_id)
                return next((found.truth for found in load_stored(session, wanted)), None)
        finally:
            db.close()


def check_signature(secret: str, headers: Mapping[str, str], body: bytes) -> None:
    """As docs/cloud-providers.md tells a receiver to. Raises `QuestionRefusedError` with 401."""
    message_id, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not sent_at.isdecimal() or abs(time.time() - int(sent_at)) > TOLERANCE_S:
        raise QuestionRefusedError(401, "sent too long ago, or in the future")
    expected = sign(decode_secret(secret), message_id, int(sent_at), body).encode()
    given = headers.get("webhook-signature", "").split(" ")
    if not any(hmac.compare_digest(entry.encode(), expected) for entry in given):
        raise QuestionRefusedError(401, "the signature is not valid")


def answer_from_truth(truth: dict[str, Any] | None) -> Answer:
    """What an oracle says of a part, given what the simulated line did to it."""
    if truth is None:
        return Answer(
            verdict="unsure", defect_name=None, confidence=0.0, reason="A simulated oracle, no model: it knows nothing."
        )
    kinds = sorted({str(defect["kind"]) for defect in truth["defects"]})
    did = f"put {', '.join(kinds).replace('_', ' ')} on this part" if kinds else "left this part without a defect"
    return Answer(
        verdict="defect" if kinds else "good",
        defect_name=kinds[0] if kinds else None,
        confidence=1.0,
        reason=f"A simulated oracle, no model: the line {did}.",
    )


def cloud_section(url: str) -> dict[str, Any]:
    """The configuration of whom the demo may ask."""
    oracle = {"kind": "webhook", "name": "oracle", "base_url": url, "secret_env": SECRET_ENV}
    return {"allowed_hosts": [LOOPBACK], "providers": [oracle | {"price_request": PRICE_REQUEST}]}


def station_rules(size: tuple[int, int]) -> dict[str, Any]:
    """What the demo's station asks: crops of REVIEW, new-looking NG and a drawn share of the OK parts."""
    return {
        "send": "crops",
        "provider": "oracle",
        "product": "circuit board",
        "audit_share": AUDIT_SHARE,
        "areas": [{"box_xyxy_px": [0, 0, *size]}],
    }


@dataclass(frozen=True, slots=True)
class CloudOutcome:
    """What the demo asked and what came of it. Money in `currency`; `everything`: had every part been asked about."""

    asked: int
    reused: int
    answered: int
    open: int
    not_answered: int
    opinions: dict[str, int]
    bytes_sent: int
    money: float
    everything: float | None
    currency: str
    audit_rows: int
    audit_files: int
    page: str

    def rows(self) -> tuple[tuple[str, str], ...]:
        """For the table at the end of the demo."""
        said = ", ".join(f"{count} {name}" for name, count in self.opinions.items())
        whole = "unknown" if self.everything is None else f"{self.everything:.3f} {self.currency}"
        left = f"; {self.open} open, {self.not_answered} not answered" if self.open or self.not_answered else ""
        return (
            (
                "cloud (simulated oracle)",
                f"{self.asked} asked, {self.reused} reused, {self.answered} answered{left}",
            ),
            ("verdict and opinion", said),
            ("cloud cost, assumed", f"{self.money:.3f} {self.currency}; asking about everything: {whole}"),
            (
                "cloud audit log",
                f"verified: {self.audit_rows} rows, {self.audit_files} files, {self.bytes_sent / 1e6:.2f} MB sent",
            ),
            ("cloud report", self.page),
        )


def settle_cloud(config: PlantConfig, data_dir: Path, page: Path) -> CloudOutcome:
    """Verify the audit log, write the page and count. Raises `ChainBrokenError` for a log that was changed."""
    audit = audit_cloud(data_dir, station=None, last=0, export=None).report
    report = report_cloud(config, data_dir, out=page, note=NOTE).report
    everything = [item.everything_micro for item in report.stations if item.everything_micro is not None]
    asked = sum(item.asked for item in report.stations)
    reused = sum(item.reused for item in report.stations)
    return CloudOutcome(
        asked=asked,
        reused=reused,
        answered=asked + reused,
        open=report.open_questions,
        not_answered=sum(report.problems.values()),
        opinions={f"{verdict} {said}": count for (verdict, said), count in sorted(report.matrix.items())},
        bytes_sent=sum(item.sent_bytes for item in report.stations),
        money=sum(item.money_micro for item in report.stations) / MICRO,
        everything=sum(everything) / MICRO if everything else None,
        currency=report.currency,
        audit_rows=audit.rows,
        audit_files=audit.files_checked,
        page=str(page),
    )


def _handler_of(oracle: DemoOracle) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            try:
                if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
                    raise QuestionRefusedError(413, "too large, or of unknown length")
                headers = {name.lower(): value for name, value in self.headers.items()}
                body, status = oracle.reply(headers, self.rfile.read(int(length))), 200
            except QuestionRefusedError as error:
                body, status = str(error).encode(), error.status
            self.send_response(status)
            self.send_header("Content-Type", "application/json" if status == 200 else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing: the service's log says what was asked."""

    return Handler
