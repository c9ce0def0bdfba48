"""Loading the model that a course starts from, and checking that an argument is a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .. import random
from ..errors import DtypeError, FileError
from ..io import load
from ..io.modules import build
from ..io.torch_files import without_prefix
from ..models import CifarCNN
from ..nn.module import Module
from ..tensors import Tensor

FIRST, LAST = "0.weight", "22.weight"       # of CifarCNN: the first convolution and the linear layer at its end


def check_model(what: str, model: Any) -> Module:
    """`model`; raises DtypeError, which names `what`, unless it is a Module."""
    if not isinstance(model, Module):
        hint = "; for arrays use Int8Quantizer().quantize(x)" if isinstance(model, (Tensor, np.ndarray)) else ""
        raise DtypeError(f"{what}: expected a tinyml model, got {type(model).__name__}{hint}")
    return model


def load_trained_model(path: Any) -> Module:
    """Load a model from a file, in evaluation mode.

    Args:
        path: a state dict of CifarCNN as PyTorch writes it (.pt, .pth), whose width, channels and classes are those of its
            tensors; or a file of any model that `save` wrote.

    Returns:
        The model.

    Raises:
        FileError: the file is missing or damaged, or has the state dict of another model.

    Example:
        >>> import tinyml, tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "mlp.safetensors"
        >>> tinyml.models.MLP(4, 2).eval().save(path)
        >>> type(load_trained_model(path)).__name__
        'MLP'
    """
    found = load(path)
    if isinstance(found, Module):
        return found
    arrays = without_prefix({n: a for n, a in found.items() if isinstance(n, str)} if isinstance(found, dict) else {})
    if [getattr(arrays.get(name), "ndim", 0) for name in (FIRST, LAST)] != [4, 2]:
        raise FileError(f"{Path(path)}: expected the state dict of a CifarCNN, from {FIRST} to {LAST}, got "
                        f"{', '.join(list(arrays)[:4])}, ...; build your model and use tinyml.load(path, model=model)")
    width, channels = arrays[FIRST].shape[:2]
    state = random.get_state()
    try:
        model = build({"class": f"{CifarCNN.__module__}.CifarCNN", "kwargs": {},
                       "args": [channels, len(arrays[LAST]), width]}, arrays)
    except FileError as error:
        raise FileError(f"{Path(path)}: {error}") from error
    finally:
        random.set_state(state)
    return load(path, model=model)
