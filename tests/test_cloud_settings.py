"""Cloud settings: nothing leaves by default, and a mistake in them is found before anything could."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from inspector.cloud_settings import (
    CloudConfig,
    GeminiProvider,
    StationCloudConfig,
    VertexProvider,
    WebhookProvider,
    check_url,
    policy_version,
)
from inspector.detector.recipe_store import RecipeStore
from pipelines.fit import fit_recipe
from tests.small_line import RECIPE, folder_camera, small_plant, teach

HOOK = {"kind": "webhook", "name": "hook", "base_url": "https://hooks.example/ask", "secret_env": "HOOK_SECRET"}


def plant(station: dict[str, Any], **cloud: Any) -> Any:
    return small_plant(folder_camera(Path("incoming")), station={"cloud": station}, cloud=cloud)


def test_nothing_is_sent_by_default() -> None:
    """Without a word about the cloud nothing leaves, nobody may be asked and no opinion decides anything."""
    config = small_plant(folder_camera(Path("incoming")))
    (station,) = config.stations().values()
    assert station.cloud.send == "none" and station.cloud.authority == "advise" and not station.cloud.golden
    assert config.cloud.providers == () and config.cloud.allowed_hosts == ()


@pytest.mark.parametrize(
    ("station", "cloud", "sentence"),
    [
        ({"send": "crops"}, {}, "needs a provider"),
        ({"send": "crops", "provider": "hook"}, {}, "not among cloud.providers"),
        ({}, {"providers": [HOOK]}, "not among allowed_hosts"),
        ({}, {"providers": [HOOK, HOOK], "allowed_hosts": ["hooks.example"]}, "named twice"),
        ({"masks": [{"box_xyxy_px": [5, 5, 5, 9]}]}, {}, "x1 > x0"),
        ({"send": "everything"}, {}, "'none', 'crops' or 'frames'"),
    ],
)
def test_mistakes_are_named(station: dict[str, Any], cloud: dict[str, Any], sentence: str) -> None:
    """A provider that is missing, unknown or not allowed, a box without area, and an unknown value are errors."""
    with pytest.raises(ValidationError, match=sentence):
        plant(station, **cloud)


@pytest.mark.parametrize(
    "url",
    ["http://models.example/v1", "ftp://models.example", "https://me:pw@models.example", "https://m.example/?key=1"],
)
def test_only_verified_tls_leaves_the_machine(url: str) -> None:
    """Plain http, credentials in a URL and queries are refused."""
    with pytest.raises(ValueError, match="https"):
        check_url(url)


def test_this_machine_may_be_asked_in_the_clear() -> None:
    """A server on loopback needs no TLS, but it needs to be allowed like any other."""
    hook = {**HOOK, "base_url": "http://127.0.0.1:8123/ask"}
    config = CloudConfig.model_validate({"providers": [hook], "allowed_hosts": ["127.0.0.1"]})
    assert config.providers[0].destination == "http://127.0.0.1:8123"


def test_destinations() -> None:
    """The allow-list is about the host that is really contacted."""
    gemini = GeminiProvider(name="g", model="m", api_key_env="KEY")
    vertex = VertexProvider(
        name="v", model="m", project="plant-one", location="europe-west4", credentials_file=Path("key.json")
    )
    anywhere = vertex.model_copy(update={"location": "global"})
    assert gemini.destination == "https://generativelanguage.googleapis.com:443"
    assert vertex.destination == "https://europe-west4-aiplatform.googleapis.com:443"
    assert anywhere.destination == "https://aiplatform.googleapis.com:443"


def test_policy_version_follows_the_settings() -> None:
    """Every setting that decides what is sent where changes the version; the same settings give the same one."""
    hook = WebhookProvider.model_validate(HOOK)
    plain = StationCloudConfig(send="crops", provider="hook")
    assert policy_version(plain, hook) == policy_version(StationCloudConfig(send="crops", provider="hook"), hook)
    others = [
        (plain.model_copy(update={"margin": 0.6}), hook),
        (plain.model_copy(update={"send": "frames"}), hook),
        (plain, hook.model_copy(update={"base_url": "https://other.example/ask"})),
    ]
    assert len({policy_version(plain, hook), *(policy_version(*other) for other in others)}) == 4


def test_a_recipe_is_confidential_when_it_was_taught_so(tmp_path: Path) -> None:
    """`fit --confidential` writes it into the manifest, whose hash every inspection carries; the default is not."""
    teach(tmp_path / "data", tmp_path / "good")
    fit_recipe(RECIPE, tmp_path / "good", tmp_path / "data", confidential=True)
    marks = [RecipeStore(tmp_path / "data").load(f"{RECIPE}@{version}").manifest.confidential for version in (1, 2)]
    assert marks == [False, True]
