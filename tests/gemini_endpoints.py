"""Gemini and Vertex AI for tests: the real SDK, and the fakes that it talks to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from inspector.cloud.gemini import GeminiProvider, GeminiSettings, VertexProvider, VertexSettings
from tests.cloud_fakes.gemini import API_KEY, LOCATION, MODEL, PROJECT, FakeGemini, FakeVertex
from tests.cloud_fakes.service_account import ACCOUNT, ServiceAccount

GENERATE, CACHES = ":generateContent", "cachedContents"


@dataclass(frozen=True)
class Endpoint:
    """Somewhere to ask. `make` takes changes of the settings."""

    make: Callable[..., GeminiProvider | VertexProvider]
    server: FakeGemini | None = None


def fake_gemini(server: FakeGemini) -> Endpoint:
    settings = GeminiSettings(model=MODEL, api_key=API_KEY, base_url=server.url)
    return Endpoint(lambda **changes: GeminiProvider(replace(settings, **changes)), server)


def fake_vertex(server: FakeVertex, account: ServiceAccount) -> Endpoint:
    settings = VertexSettings(
        model=MODEL, project=PROJECT, location=LOCATION, credentials_file=account.file, base_url=server.url
    )
    return Endpoint(lambda **changes: VertexProvider(replace(settings, **changes)), server)


@contextmanager
def open_fake(api: str, account: ServiceAccount) -> Iterator[Endpoint]:
    """The fake of `gemini` or `vertex`; nothing may be asked of it that its schema does not allow."""
    if api == "gemini":
        with FakeGemini() as server:
            yield fake_gemini(server)
            assert server.violations == []
    else:
        with FakeVertex(account.certificate, ACCOUNT) as vertex:
            yield fake_vertex(vertex, account)
            assert vertex.violations == []


def fake_of(endpoint: Endpoint) -> FakeGemini:
    """The fake behind it."""
    assert endpoint.server is not None
    return endpoint.server
