"""Mixed precision as scripts for PyTorch ask for it: it is off, and says so where that would matter."""

from __future__ import annotations

import numpy as np
import pytest
from values import normal

import tinyml
from tinyml import Tensor, nn, optim
from tinyml.errors import DtypeError


def test_a_training_script_runs_as_in_float32():
    def trained(mixed: bool) -> np.ndarray:
        tinyml.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer, scaler = optim.SGD(model.parameters(), lr=0.1), tinyml.amp.GradScaler("cpu", init_scale=2.0**10)
        for step in range(3):
            x = normal(4, 3, seed=step)
            optimizer.zero_grad()
            if mixed:
                with tinyml.amp.autocast("cpu", dtype=np.float32):
                    loss = (model(x) ** 2).mean()
                scaler.scale(loss).backward()
                scaler.unscale_(optimizer)
                scaler.step(optimizer)
                scaler.update()
            else:
                (model(x) ** 2).mean().backward()
                optimizer.step()
        scaler.load_state_dict(scaler.state_dict())
        return model.weight.numpy().copy()

    assert trained(True).tobytes() == trained(False).tobytes()


def test_autocast_decorates_functions():
    @tinyml.autocast("cuda", enabled=False, dtype="float16")
    def double(x: Tensor) -> Tensor:
        return x * 2

    assert double(Tensor([1.0])).dtype == np.float32


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", np.float16, np.dtype("float16")])
def test_shorter_floats_are_refused(dtype):
    with pytest.raises(DtypeError, match=r"^autocast: .* not in b?float16; .* model\.to_fp16\(\)"):
        tinyml.autocast("cpu", dtype)
