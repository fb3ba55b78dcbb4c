"""Peels: small low-rank adapters (Hu et al., 2021) that bend the repair net to one line, the base untouched.

A peel holds, for convolutions of the trunk, `b` (out, r) and `a` (r, in * k * k) with r = `RANK`: the weights become
those of the base plus b a. Attaching one makes a second trunk session beside the base's, which is never changed, so
without the peel the output is what it was, to the bit. The encoder is not bent: cached features stay valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inspector.errors import WeightsError
from inspector.generator.repair_model import RepairModel
from inspector.generator.weight_file import (
    StoredTensor,
    WeightFile,
    WeightMetadata,
    pack_weights,
    parse_weights,
    store_tensor,
)

MODEL = "repair peel"
FILE = "peel.weights"
BENT = "trunk."
"""Weights with such names may be bent; the others belong to the encoder, whose features are cached."""
RANK = 8
BASE_KEY = "base"
RECIPE_KEY = "recipe"
FloatMatrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Peel:
    """One adapter of one recipe: for each weight of the base its (out, r) and (r, columns) factors.

    `sha256` is the hash of the file it was read from, empty for one that was just trained.
    """

    base_sha256: str
    recipe: str
    factors: Mapping[str, tuple[FloatMatrix, FloatMatrix]]
    details: Mapping[str, str]
    sha256: str = ""


def pack_peel(peel: Peel, licence: str, config_sha256: str) -> bytes:
    """The file of a peel, factors as float16. Raises `WeightsError` for factors that are not finite."""
    tensors: dict[str, StoredTensor] = {}
    for name, (b, a) in peel.factors.items():
        tensors[f"{name}.b"] = store_tensor(b, "f16")
        tensors[f"{name}.a"] = store_tensor(a, "f16")
    metadata = WeightMetadata(
        model=MODEL,
        licence=licence,
        training_config_sha256=config_sha256,
        graph_sha256={BASE_KEY: peel.base_sha256},
        details={**peel.details, RECIPE_KEY: peel.recipe},
    )
    return pack_weights(Path(FILE), tensors, metadata)


def unpack_peel(content: bytes) -> Peel:
    """The peel of a file. Raises `WeightsError` for one that is truncated, changed, or no peel."""
    stored = parse_weights(Path(FILE), content)
    if stored.metadata.model != MODEL:
        raise WeightsError(f"{FILE} holds {stored.metadata.model!r}, which is no peel")
    names = {key.removesuffix(".b") for key in stored.tensors if key.endswith(".b")}
    if {f"{name}.{part}" for name in names for part in "ab"} != set(stored.tensors):
        raise WeightsError(f"{FILE}: a peel holds two factors for each weight, and nothing else")
    details = dict(stored.metadata.details)
    return Peel(
        stored.metadata.graph_sha256.get(BASE_KEY, ""),
        details.pop(RECIPE_KEY, ""),
        {name: (stored.tensor(f"{name}.b"), stored.tensor(f"{name}.a")) for name in sorted(names)},
        details,
        stored.sha256,
    )


def attach_peel(model: RepairModel, peel: Peel, recipe: str) -> RepairModel:
    """The model bent by a peel; it shares the encoder, and `model` stays as it is.

    Raises `WeightsError` for a peel of other base weights or of another recipe than `recipe`, for factors that do not
    fit, and for a model that has a peel already: two would overlap.
    """
    if model.peel is not None:
        raise WeightsError(f"this model has a peel already ({model.peel}); two peels on one base would overlap")
    if peel.recipe != recipe:
        raise WeightsError(f"the peel was trained for recipe {peel.recipe or 'without a name'}, not for {recipe}")
    if peel.base_sha256 != model.weights.sha256:
        raise WeightsError(
            f"the peel was trained for other base weights ({peel.base_sha256[:12]}, "
            f"these are {model.weights.sha256[:12]}); train it again"
        )
    foreign = sorted(set(peel.factors) - {name for name in model.weights.tensors if name.startswith(BENT)})
    if foreign:
        raise WeightsError(f"the peel bends {foreign[0]}, which is no weight of the trunk")
    tensors = dict(model.weights.tensors)
    for name, (b, a) in peel.factors.items():
        tensors[name] = _bend(model.weights, name, b, a)
    return model.bent(replace(model.weights, tensors=tensors), f"{recipe} {peel.sha256[:12]}".rstrip())


def _bend(weights: WeightFile, name: str, b: FloatMatrix, a: FloatMatrix) -> StoredTensor:
    base = weights.tensor(name)
    rows, columns = base.shape[0], base[0].size
    if b.ndim != 2 or a.ndim != 2 or b.shape[0] != rows or a.shape[1] != columns or b.shape[1] != a.shape[0]:
        raise WeightsError(f"the factors {b.shape} and {a.shape} of a peel do not fit {name}, which is {base.shape}")
    return store_tensor(np.asarray(base + (b @ a).reshape(base.shape), np.float32), "int8")
