"""How often a model is right, and whether its int8 form is as good."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .. import checks, precision
from ..batches import read_batches
from ..errors import ShapeError
from ..evaluation import run_models
from ..metrics import IGNORED, mark_right, output_array
from ..nn.module import Module
from ..precision.analysis.comparison import Comparison
from ..tensors import Tensor
from .models import check_model


def evaluate(model: Module, loader: Iterable[Any]) -> float:
    """The percentage of the targets that the model predicts, in evaluation mode; targets of -100 do not count.

    Args:
        model: the model, in any precision.
        loader: batches (inputs, targets) of class ids: (B,) for outputs (B, C), (B, ...) for outputs (B, C, ...).

    Returns:
        The accuracy, from 0 to 100.

    Raises:
        ShapeError: no target counts, a batch is not a pair, or targets are not classes of the outputs.
        DtypeError: `model` is not a tinyml model, or `loader` is not an iterable of batches.

    Example:
        >>> import numpy as np
        >>> from tinyml import nn
        >>> evaluate(nn.Sequential(), [(np.float32([[0, 1], [2, 0], [0, 3]]), np.array([1, 1, -100]))])
        50.0
    """
    check_model("evaluate", model)
    right = count = 0
    batches = read_batches("evaluate", checks.rows("evaluate", "loader", loader, "batches"), paired=True)
    with run_models([model], batches) as run:
        for _, (result,), targets in run:
            outputs = output_array("evaluate", result)
            if not isinstance(targets, Tensor):
                raise ShapeError(f"evaluate: expected one array of targets, got a {type(targets).__name__} of several")
            found = mark_right(model.default_loss, outputs, targets.array)
            if found is None:
                raise ShapeError("evaluate: expected integer targets (B,) or (B, ...) for outputs (B, C) or (B, C, ...), "
                                 f"got {targets.dtype} of shape {targets.shape} for outputs {outputs.shape}")
            found = found[targets.array != IGNORED]
            right, count = right + int(found.sum()), count + found.size
    if not count:
        raise ShapeError("evaluate: expected at least one target that counts, got none")
    return 100 * right / count


class AccuracyValidator:
    """Says whether an int8 model is as good as its float model, give or take `tolerance` points of accuracy.

    Args:
        model: the float model.
        int8_model: the int8 model that is compared with it.
        tolerance: how many points of accuracy int8 may cost, in hundredths.

    Raises:
        DtypeError: a model is not a tinyml model.
        ShapeError: the tolerance is negative or not finite.

    Example:
        >>> import numpy as np
        >>> from tinyml import nn
        >>> model = nn.Sequential(nn.Linear(2, 2))
        >>> batches = [(np.float32([[0, 1]] * 1000), np.zeros(1000, int))]
        >>> AccuracyValidator(model, model.to_int8()).validate(batches).verdict
        'no worse'
    """

    def __init__(self, model: Module, int8_model: Module, tolerance: float = 0.5):
        self.model, self.int8_model = (check_model("AccuracyValidator", m) for m in (model, int8_model))
        self.tolerance = checks.number("AccuracyValidator", "tolerance", tolerance, 0)

    def validate(self, loader: Iterable[Any]) -> Comparison:
        """Compare both models over the same data with `precision.compare`.

        Args:
            loader: batches (inputs, targets) of class ids.

        Returns:
            A Comparison. It prints as a table; its `verdict` is "no worse", "worse" or "inconclusive".

        Raises:
            ShapeError, DtypeError: as `precision.compare`.
        """
        return precision.compare(self.model, self.int8_model, loader, show=False, tolerance=self.tolerance)
