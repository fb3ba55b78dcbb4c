"""Makes `tests` and `tools` importable here and in child processes, and nothing else of the checkout.

What is tested is the installed package: the checkout itself must not come before it on any path, so the path
gets a folder that holds these two alone.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module is imported."""
    shelf = Path(tempfile.mkdtemp(prefix="tests-on-the-path-"))
    for name in ("tests", "tools"):
        (shelf / name).symlink_to(Path(__file__).resolve().parent.parent / name, target_is_directory=True)
    sys.path.append(str(shelf))
    os.environ["PYTHONPATH"] = str(shelf)
    config.add_cleanup(lambda: shutil.rmtree(shelf))


LEARNING = (
    "calibrate",
    "detector",
    "evaluate",
    "exposure",
    "fit",
    "gallery",
    "generator",
    "geometry",
    "kriging",
    "learned_head",
    "name",
    "naming",
    "peel",
    "references",
    "repair",
    "samples",
    "scenes",
    "template",
    "training",
    "twin",
    "visual",
)
"""Beginnings of the names of modules whose tests `make test` runs beside the others: they start no service."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of learning."""
    for item in items:
        if item.path.stem.removeprefix("test_").startswith(LEARNING):
            item.add_marker(pytest.mark.learning)


@pytest.fixture(scope="session", autouse=True)
def few_masks() -> Iterator[None]:
    """Fits measure every repair method, on few masks; tests/test_twin.py has as many as the product."""
    from tests.small_line import FEW_MASKS, measure_repairs_on

    with measure_repairs_on(FEW_MASKS):
        yield


@pytest.fixture(scope="session")
def taught_plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small released recipe in `data` and its images in `good`, taught once: copy `data`."""
    from tests.small_line import teach

    root = tmp_path_factory.mktemp("taught-plate")
    teach(root / "data", root / "good")
    return root
