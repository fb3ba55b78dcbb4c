"""The plant of a trial: five stations, each with a provider that fails, and budgets tight enough to stop them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any

from inspector.config import load_config
from tests.cloud.faulty_servers import FaultyGemini, FaultyOpenAi, FaultyReceiver, FaultyServer, FaultyVertex
from tests.cloud_fakes.gemini import API_KEY, LOCATION, MODEL, PROJECT
from tests.cloud_fakes.openai_api import API_KEY as OPENAI_KEY
from tests.cloud_fakes.openai_api import MODEL as OPENAI_MODEL
from tests.cloud_fakes.service_account import ACCOUNT, make_service_account
from tests.cloud_fakes.webhook import SECRET
from tests.small_line import RECIPE

DIFFERENT, ALIKE = "plant/line1/different", "plant/line1/alike"
GEMINI, VERTEX, MODELS = "plant/line1/gemini", "plant/line1/vertex", "plant/line1/models"
SHARES = {DIFFERENT: 0.4, ALIKE: 0.15, GEMINI: 0.2, VERTEX: 0.15, MODELS: 0.1}
"""Of the parts. Only those of `ALIKE` repeat."""
TIMEOUT_S = 1.5
SECRETS = {"TRIAL_SECRET": SECRET, "TRIAL_GEMINI_KEY": API_KEY, "TRIAL_OPENAI_KEY": OPENAI_KEY}
PRICES: dict[str, Any] = {"price_input": 0.3, "price_cached": 0.075, "price_output": 2.5, "max_output_tokens": 256}
LIMITS: dict[str, dict[str, float]] = {
    DIFFERENT: {"requests_per_hour": 90, "requests_per_day": 2500, "bytes_per_day": 50_000_000, "money_per_month": 50},
    ALIKE: {"requests_per_hour": 8, "requests_per_day": 150, "bytes_per_day": 2_000_000, "money_per_month": 1},
    GEMINI: {"requests_per_hour": 60, "requests_per_day": 900, "bytes_per_day": 20_000_000, "money_per_month": 2},
    VERTEX: {"requests_per_hour": 45, "requests_per_day": 900, "bytes_per_day": 20_000_000, "money_per_month": 2},
    MODELS: {"requests_per_hour": 30, "requests_per_day": 900, "bytes_per_day": 20_000_000, "money_per_month": 2},
}
"""Tight enough to stop the stations again and again."""


@contextmanager
def open_servers(work: Path, random: Random) -> Iterator[dict[str, FaultyServer]]:
    """{provider: its server}, all listening on loopback; Vertex AI's service account lies in `work`."""
    account = make_service_account(work)
    servers: dict[str, FaultyServer] = {
        "hook": FaultyReceiver(),
        "gemini": FaultyGemini(),
        "vertex": FaultyVertex(account.certificate, ACCOUNT),
        "models": FaultyOpenAi(),
    }
    with ExitStack() as stack:
        for server in servers.values():
            server.expect(Random(random.random()))
            stack.enter_context(server)
        yield servers


def write_config(work: Path, servers: dict[str, FaultyServer]) -> Path:
    """Every provider with the URL of its server."""
    camera = {"id": "top", "kind": "folder", "path": "incoming"}

    def station(name: str, provider: str, **changes: Any) -> dict[str, Any]:
        rules = {
            "send": "crops",
            "provider": provider,
            "authority": "decide_review",
            "audit_share": 0.0,
            "give_up_h": 720.0,
            "budget": LIMITS[name],
            "reuse_days": 0.0,
            **changes,
        }
        return {"id": name.rsplit("/", 1)[1], "recipe": RECIPE, "cameras": [camera], "cloud": rules}

    def provider(name: str, path: str = "", **settings: Any) -> dict[str, Any]:
        return {"name": name, "base_url": servers[name].url + path, "timeout_s": TIMEOUT_S, **settings}

    stations = [
        station(DIFFERENT, "hook"),
        station(ALIKE, "hook", reuse_days=30.0),
        station(GEMINI, "gemini", golden=True),
        station(VERTEX, "vertex", golden=True),
        station(MODELS, "models"),
    ]
    vertex: dict[str, Any] = {"project": PROJECT, "location": LOCATION, "credentials_file": str(work / "key.json")}
    providers = [
        provider("hook", "/opinion", kind="webhook", secret_env="TRIAL_SECRET", price_request=0.002),
        provider("gemini", kind="gemini", model=MODEL, api_key_env="TRIAL_GEMINI_KEY", **PRICES),
        provider("vertex", kind="vertex", model=MODEL, **vertex, **PRICES),
        provider(
            "models",
            "/v1",
            kind="openai_compatible",
            model=OPENAI_MODEL,
            api_key_env="TRIAL_OPENAI_KEY",
            tokens_per_image=2000,
            **PRICES,
        ),
    ]
    plant = {
        "site": {"id": "plant"},
        "lines": [{"id": "line1", "stations": stations}],
        "http": {"port": None},
        "cloud": {"allowed_hosts": ["127.0.0.1"], "providers": providers},
    }
    path = work / "plant.yaml"
    path.write_text(json.dumps(plant))
    load_config(path)
    return path
