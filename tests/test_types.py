"""What mypy knows of the public API: it reads this file in `make lint`; here the same calls are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import tinyml
from tinyml import Tensor, models, nn, optim
from tinyml.nn import functional as F

if TYPE_CHECKING:
    from typing_extensions import assert_type
else:
    def assert_type(value, kind):
        return value


def test_arithmetic_gives_tensors() -> None:
    x, w = Tensor([[1.0, 2.0]]), nn.Parameter([[3.0], [4.0]])
    for found in (assert_type(x + x, Tensor), assert_type(2 * x, Tensor), assert_type(x @ w, Tensor),
                  assert_type(w - 1, Tensor), assert_type(x == 1.0, Tensor), assert_type(x[0, :1], Tensor),
                  assert_type(x.sum(), Tensor), assert_type(x.reshape(2, 1), Tensor), assert_type(x.T, Tensor),
                  assert_type(F.relu(x), Tensor), assert_type(x.to_int8(), Tensor)):
        assert type(found) is Tensor
    assert_type(x.numpy(), np.ndarray)
    assert_type(x.grad, Tensor | None)
    assert_type(x.shape, tuple[int, ...])
    x += 1
    assert_type(x, Tensor)


def test_a_module_is_called_as_its_forward_is() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, scale: float = 1.0) -> tuple[Tensor, float]:
            return x * scale, scale

    y, scale = assert_type(Two()(Tensor([1.0]), scale=2.0), tuple[Tensor, float])
    assert y.item() == scale == 2.0
    linear = nn.Linear(2, 3)
    assert_type(linear(np.ones((1, 2), np.float32)), Tensor)
    assert_type(linear.weight, nn.Parameter)
    assert_type(nn.CrossEntropyLoss()([[1.0, 2.0]], [0]), Tensor)
    assert_type([block.attention.heads for block in models.TinyGPT(5, 4, 1, 2, 4).blocks], list[int])


def test_conversions_give_modules(tmp_path: Any) -> None:
    model, x = models.MLP(4, 8, 2), np.ones((3, 4), np.float32)
    assert_type(model.to_int8(), models.MLP)
    assert_type(model.to_fp16(), models.MLP)
    assert_type(model.eval().copy(), models.MLP)
    assert_type(model.to_int8(calibration=[x]), nn.Module)
    assert_type(model.compile(x), nn.Module)
    model.save(tmp_path / "model.safetensors")
    assert_type(tinyml.load(tmp_path / "model.safetensors"), Any)      # a model, or what else was saved
    assert_type(tinyml.load(tmp_path / "model.safetensors", model), models.MLP)
    assert_type(optim.AdamW(model.parameters()).parameters, list[Tensor])
