"""Which of a model's parameters an optimizer holds."""

from __future__ import annotations

import warnings

from ..errors import ShapeError
from ..nn.module import Module
from .optimizer import Optimizer


def check_held(what: str, model: Module, optimizer: Optimizer) -> None:
    """Look for parameters of `model` that would be trained but that `optimizer` does not hold.

    One may leave parameters out to keep them as they are, which is warned of: setting their requires_grad to False says so.
    If at the same time the optimizer holds parameters that the model does not have, a layer was replaced after the
    optimizer was made: an error.

    Raises:
        ShapeError: such parameters, which are named, or none of the model's is held.
    """
    own, held = model.parameters(), {id(p) for p in optimizer.parameters}
    if not held & {id(p) for p in own}:
        raise ShapeError(f"{what}: expected an optimizer of the model's parameters, got one of none of them")
    left = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in held]
    if not left:
        return
    foreign = [p.shape for p in optimizer.parameters if id(p) not in {id(q) for q in own}]
    names = ", ".join(left[:8]) + (f" and {len(left) - 8} more" if len(left) > 8 else "")
    message = f"{what}: the optimizer does not hold {names}, so training leaves them as they are"
    if foreign:
        shapes = ", ".join(map(str, foreign[:8]))
        raise ShapeError(f"{message}; but it holds parameters that the model does not have, of shapes {shapes}. Was a layer"
                         " replaced after the optimizer was made? Make the optimizer of model.parameters() again")
    warnings.warn(f"{message}. If that is wanted, set requires_grad = False on them; if not, make the optimizer of "
                  "model.parameters()", UserWarning, stacklevel=3)
