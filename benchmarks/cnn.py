"""Whole networks in float32 and int8, timed from float32 images to logits, so quantizing the input counts too."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import tinyml
from tinyml import models, nn

from . import ours
from .timing import Row, Run

# name: the model, the batch sizes, and the precisions that are measured
MODELS: dict[str, tuple[Callable[[], nn.Module], list[int], list[str]]] = {
    "CifarCNN": (models.CifarCNN, [64, 1], ["float32", "int8"]),
    "ResNet8": (models.ResNet8, [64], ["int8"]),
    "DepthwiseCNN": (models.DepthwiseCNN, [64], ["int8"]),
}
IMAGE = (3, 32, 32)


def network(run: Run, name: str, model: nn.Module, x: np.ndarray, precisions: list[str]) -> list[Row]:
    """One row per precision. The float32 row times the compiled model, and the model as it is beside it. The int8 row times
    a model that is calibrated on x, as the peers are, and tinyml's float32 beside it."""
    model.eval()
    compiled = model.compile(x)
    with tinyml.no_grad():
        expected, operations = model(x).numpy(), ours.operations(model, x)
    weights, edges = sum(p.array.size for p in model.parameters()), 4 * (x.size + expected.size)
    found = []
    if "float32" in precisions:
        prepared = {"tinyml": ours.model(compiled, x), "tinyml eager": ours.model(model, x)}
        for peer in run.peers:
            prepared |= peer.model_f32(model, x)
        found.append(run.row(name, "float32", prepared, expected, operations, edges + 4 * weights, "fma"))
    if "int8" in precisions:
        plan = model.to_int8(calibration=[x])
        prepared = {"tinyml": ours.model(plan, x), "tinyml float32": ours.model(compiled, x)}
        for peer in run.peers:
            prepared |= peer.model_int8(model, x)
        found.append(run.row(name, "int8", prepared, expected, operations, edges + weights, "dot4"))
    return found


def rows(run: Run) -> list[Row]:
    """The rows of every model and batch size."""
    found = []
    for name, (make, batches, precisions) in MODELS.items():
        tinyml.manual_seed(0)
        model = make()
        for batch in batches:
            x = np.random.default_rng(0).standard_normal((batch, *IMAGE), np.float32)
            found += network(run, f"{name}, batch {batch}", model, x, precisions)
    return found
