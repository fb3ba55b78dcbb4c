"""Stored recipes for tests: what a fit would store again, and files that somebody changed."""

from __future__ import annotations

import json
from pathlib import Path

from inspector.detector.recipe import Recipe
from inspector.detector.recipe_store import RecipeContent
from inspector.images import sha256_hex
from tests.small_line import RECIPE


def content_of(recipe: Recipe, name: str = RECIPE) -> RecipeContent:
    """What a fit would hand over to store the same recipe again."""
    return RecipeContent(
        name=name,
        settings=recipe.manifest.settings,
        frame_size=recipe.frame_size,
        arrays=recipe.arrays,
        graph=recipe.graph,
        contrast_graph=recipe.contrast_graph,
        golden=recipe.golden,
        images=recipe.manifest.images,
        thresholds=recipe.thresholds,
        false_alarm_target=recipe.manifest.false_alarm_target,
        false_alarm_interval=recipe.manifest.false_alarm_interval,
        promise=recipe.manifest.promise,
        choices=recipe.manifest.choices,
    )


def overwrite(path: Path, content: bytes) -> None:
    """Write a read-only file as somebody with the rights to would."""
    path.chmod(0o644)
    path.write_bytes(content)


def change_one_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    overwrite(path, bytes(content))


def forge(folder: Path, name: str, content: bytes) -> None:
    """Replace a file of a recipe, put its new hash into the manifest and take the release back."""
    overwrite(folder / name, content)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"][name] = sha256_hex(content)
    overwrite(folder / "manifest.json", json.dumps(manifest).encode())
    (folder.parent / "released.json").unlink(missing_ok=True)
