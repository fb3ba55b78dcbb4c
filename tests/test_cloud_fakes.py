"""The fakes of the providers: they refuse what the providers refuse, and no change of a reply breaks a provider."""

from __future__ import annotations

import base64
import copy
import json
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

import pytest
from google.genai import types
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from inspector.cloud.gemini import GeminiProvider, GeminiSettings
from inspector.cloud.openai_compatible import OpenAiCompatibleProvider, OpenAiCompatibleSettings
from inspector.cloud.provider import Provider, ProviderError
from inspector.cloud.webhook import WebhookProvider, WebhookSettings, decode_secret, sign
from tests.cloud_contract import PATIENT_S
from tests.cloud_fakes import gemini, openai_api, webhook
from tests.cloud_fakes.gemini_schema import CREATE_CACHED_CONTENT, DEFINITIONS, use_json_names
from tests.cloud_fakes.openai_schema import CHAT_COMPLETION
from tests.cloud_fakes.server import FakeServer, Received, Step
from tests.cloud_questions import make_question

Change = Callable[[Any], object]
WRONG_VALUES: tuple[Any, ...] = (None, 7, -1, 0.5, "x", True, [], {}, [[]], {"a": 1})


@dataclass(frozen=True)
class Pair:
    """A provider and the server that it asks."""

    server: FakeServer
    provider: Provider


@pytest.fixture(params=["gemini", "openai", "webhook"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    server: FakeServer
    provider: Provider
    if request.param == "gemini":
        server = gemini.FakeGemini()
        provider = GeminiProvider(GeminiSettings(model=gemini.MODEL, api_key=gemini.API_KEY, base_url=server.url))
    elif request.param == "openai":
        server = openai_api.FakeOpenAi()
        provider = OpenAiCompatibleProvider(
            OpenAiCompatibleSettings(model=openai_api.MODEL, api_key=openai_api.API_KEY, base_url=f"{server.url}/v1")
        )
    else:
        server = webhook.FakeReceiver()
        provider = WebhookProvider(WebhookSettings(url=f"{server.url}/opinion", secret=webhook.SECRET))
    with server:
        yield Pair(server, provider)


def record_request(pair: Pair) -> Received:
    """What the provider sends for a question, and that it is right."""
    pair.provider.ask(make_question(), PATIENT_S)
    assert pair.server.violations == []
    return pair.server.received[-1]


def send(server: FakeServer, received: Received, body: bytes) -> int:
    """The same request with another body, signed anew where that is asked for."""
    headers = {name: value for name, value in received.headers.items() if name != "content-length"}
    if "webhook-signature" in headers:
        sent_at = int(headers["webhook-timestamp"])
        headers["webhook-signature"] = sign(decode_secret(webhook.SECRET), headers["webhook-id"], sent_at, body)
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(received.method, received.path, body, headers)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a document."""
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def find(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


# --- requests ---------------------------------------------------------------------------------------


def test_recorded_request_is_accepted_again(pair: Pair) -> None:
    """What the next tests change is right before."""
    received = record_request(pair)
    assert send(pair.server, received, received.body) == 200


def test_unknown_field_is_refused_everywhere(pair: Pair) -> None:
    """In every object of a request, however deep; only schemas and open maps are the sender's own."""
    received = record_request(pair)
    own = ("properties", "schema", "responseSchema")
    tried = 0
    for path in [(), *places(received.json())]:
        changed = received.json()
        place = find(changed, path)
        if isinstance(place, dict) and not set(path) & set(own):
            place["madeUp"] = 1
            assert send(pair.server, received, json.dumps(changed).encode()) == 400, path
            tried += 1
    assert tried >= 4


def test_value_of_another_type_is_refused(pair: Pair) -> None:
    """An object where a text belongs, and a text where anything else does, at every place.

    Not inside the lists of names in a schema, and a message may be a text alone."""
    received = record_request(pair)
    for path in places(received.json()):
        changed = received.json()
        before = find(changed, path)
        if {"required", "propertyOrdering", "enum"} & set(path[:-1]) or (path[-1] == "content" and path[-2] == 1):
            continue
        find(changed, path[:-1])[path[-1]] = {"an": "object"} if isinstance(before, str) else "text"
        assert send(pair.server, received, json.dumps(changed).encode()) in (400, 404), path


GEMINI_CHANGES: dict[str, Change] = {
    "no contents": lambda body: body.pop("contents"),
    "an unknown role": lambda body: body["contents"][0].update(role="system"),
    "an unknown resolution": lambda body: body["generationConfig"].update(mediaResolution="HIGH"),
    "a schema without JSON": lambda body: body["generationConfig"].update(responseMimeType="text/plain"),
    "a type in small letters": lambda body: body["generationConfig"]["responseSchema"].update(type="object"),
    "additionalProperties": lambda body: body["generationConfig"]["responseSchema"].update(additionalProperties=False),
    "no output at all": lambda body: body["generationConfig"].update(maxOutputTokens=0),
    "text and picture in one": lambda body: body["contents"][0]["parts"][0].update(text="x"),
    "an unknown picture": lambda body: body["contents"][0]["parts"][0]["inlineData"].update(mimeType="image/bmp"),
    "a picture of another type": lambda body: body["contents"][0]["parts"][0]["inlineData"].update(
        mimeType="image/jpeg", mime_type="image/jpeg"
    ),
    "not base64": lambda body: body["contents"][0]["parts"][0]["inlineData"].update(data="***"),
    "no picture": lambda body: body["contents"][0]["parts"][0]["inlineData"].update(data="aGVsbG8="),
    "a cache with an instruction": lambda body: body.update(cachedContent="cachedContents/c1"),
    "a name that is no cache": lambda body: body.update(cachedContent="c1"),
}


@pytest.mark.parametrize("change", GEMINI_CHANGES.values(), ids=GEMINI_CHANGES.keys())
def test_gemini_refuses(change: Change) -> None:
    """What Google's documents do not allow."""
    with gemini.FakeGemini() as server:
        settings = GeminiSettings(model=gemini.MODEL, api_key=gemini.API_KEY, base_url=server.url)
        received = record_request(Pair(server, GeminiProvider(settings)))
        body = use_json_names(received.json())
        assert send(server, received, json.dumps(body).encode()) == 200
        change(body)
        assert send(server, received, json.dumps(body).encode()) in (400, 403)


OPENAI_CHANGES: dict[str, Change] = {
    "no messages": lambda body: body.pop("messages"),
    "an unknown role": lambda body: body["messages"][0].update(role="narrator"),
    "an unknown detail": lambda body: body["messages"][1]["content"][0]["image_url"].update(detail="medium"),
    "a picture elsewhere": lambda body: body["messages"][1]["content"][0]["image_url"].update(url="file:///etc/passwd"),
    "a picture in the system message": lambda body: body["messages"][0].update(content=body["messages"][1]["content"]),
    "no limit": lambda body: body.update(max_completion_tokens=0),
    "a stream": lambda body: body.update(stream=True),
    "a name with a blank": lambda body: body["response_format"]["json_schema"].update(name="an answer"),
    "an open schema": lambda body: body["response_format"]["json_schema"]["schema"].pop("additionalProperties"),
    "a field that may be missing": lambda body: body["response_format"]["json_schema"]["schema"]["required"].pop(),
    "maxLength": lambda body: body["response_format"]["json_schema"]["schema"]["properties"]["reason"].update(
        maxLength=9
    ),
    "an unknown format": lambda body: body.update(response_format={"type": "yaml"}),
    "a picture that is none": lambda body: body["messages"][1]["content"][0]["image_url"].update(
        url="data:image/png;base64,aGVsbG8="
    ),
}


@pytest.mark.parametrize("change", OPENAI_CHANGES.values(), ids=OPENAI_CHANGES.keys())
def test_openai_refuses(change: Change) -> None:
    """What OpenAI's documents do not allow."""
    with openai_api.FakeOpenAi() as server:
        settings = OpenAiCompatibleSettings(
            model=openai_api.MODEL, api_key=openai_api.API_KEY, base_url=f"{server.url}/v1"
        )
        received = record_request(Pair(server, OpenAiCompatibleProvider(settings)))
        body = received.json()
        change(body)
        assert send(server, received, json.dumps(body).encode()) == 400


def test_too_much_is_refused(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of a request's size, as published (lowered here)."""
    received = record_request(pair)
    for module in (gemini, openai_api, webhook):
        monkeypatch.setattr(module, "MAX_REQUEST_BYTES", len(received.body) - 1)
    assert send(pair.server, received, received.body) == 413


def test_no_name_in_the_schemas_is_made_up() -> None:
    """Every field that the fakes know is one of the SDKs' own."""
    pairs: list[tuple[dict[str, Any], type[BaseModel]]] = [
        (DEFINITIONS["part"], types.Part),
        (DEFINITIONS["blob"], types.Blob),
        (DEFINITIONS["content"], types.Content),
        (DEFINITIONS["schema"], types.Schema),
        (DEFINITIONS["safety_setting"], types.SafetySetting),
        (DEFINITIONS["thinking_config"], types.ThinkingConfig),
        (DEFINITIONS["generation_config"], types.GenerateContentConfig),
        ({"properties": CREATE_CACHED_CONTENT["properties"].keys() - {"model"}}, types.CreateCachedContentConfig),
    ]
    for schema, model in pairs:
        assert set(schema["properties"]) <= {to_camel(name) for name in model.model_fields}, model
    assert CHAT_COMPLETION["properties"].keys() <= typing.get_type_hints(CompletionCreateParamsNonStreaming).keys()


# --- replies ----------------------------------------------------------------------------------------


def test_no_change_of_a_reply_breaks_a_provider(pair: Pair) -> None:
    """Every value of an ordinary reply replaced by each of ten wrong ones, and left out: a reply or a named error."""
    ordinary = json.loads(pair.server.reply(record_request(pair), None).body)
    outcomes = {"reply": 0, "error": 0}
    for path in places(ordinary):
        for wrong in (*WRONG_VALUES, "left out"):
            changed = copy.deepcopy(ordinary)
            holder = find(changed, path[:-1])
            if wrong == "left out":
                del holder[path[-1]]
            else:
                holder[path[-1]] = wrong
            pair.server.script.append(Step(body=json.dumps(changed).encode()))
            try:
                reply = pair.provider.ask(make_question(golden=0), PATIENT_S)
            except ProviderError:
                outcomes["error"] += 1
            else:
                assert 0 <= reply.answer.confidence <= 1
                outcomes["reply"] += 1
    assert min(outcomes.values()) > 5, outcomes


@pytest.mark.parametrize("status", [200, 429, 500])
def test_no_change_of_an_error_breaks_a_provider(pair: Pair, status: int) -> None:
    """The same for the JSON of a refusal, with whatever status it comes."""
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3s"}]
    ordinary = {"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED", "details": details}}
    for path in places(ordinary):
        for wrong in WRONG_VALUES:
            changed = copy.deepcopy(ordinary)
            find(changed, path[:-1])[path[-1]] = wrong
            pair.server.script.append(Step(status=status, body=json.dumps(changed).encode()))
            with pytest.raises(ProviderError) as caught:
                pair.provider.ask(make_question(golden=0), PATIENT_S)
            assert caught.value.status == (None if status == 200 else status)


def test_cache_replies_break_nothing() -> None:
    """A provider that answers nonsense about its caches is asked in full."""
    ordinary = {"name": "cachedContents/c1", "model": "m", "usageMetadata": {"totalTokenCount": 1360}}
    with gemini.FakeGemini() as server:
        settings = GeminiSettings(model=gemini.MODEL, api_key=gemini.API_KEY, base_url=server.url)
        for path in places(ordinary):
            for wrong in WRONG_VALUES:
                provider = GeminiProvider(settings)
                provider.ask(make_question(), PATIENT_S)
                changed = copy.deepcopy(ordinary)
                find(changed, path[:-1])[path[-1]] = wrong
                server.forget_caches()
                server.script.append(Step(on="cachedContents", body=json.dumps(changed).encode()))
                assert provider.ask(make_question(), PATIENT_S).answer.verdict == "good"
                assert server.script == type(server.script)()


def test_pictures_arrive_byte_for_byte(pair: Pair) -> None:
    """Base64 in either alphabet, and nothing else on the way."""
    text = json.dumps(record_request(pair).json())
    for image in make_question().images:
        plain = base64.b64encode(image.content).decode()
        assert plain in text or base64.urlsafe_b64encode(image.content).decode() in text
