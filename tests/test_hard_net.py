"""A net that is hard to quantize: what one scale a layer loses, and one a channel or training brings back.

DepthwiseCNN, trained for a moment on small images; then the channel of one depthwise convolution with the largest weights
is scaled up 100 times, and its input, by the batch norm before it, down 100 times: the float outputs stay as they are.
"""

from __future__ import annotations

import numpy as np
import pytest

import tinyml
from tinyml import data, models, nn, optim, precision

NORM, DEPTHWISE = 13, 15        # positions in DepthwiseCNN of a batch norm, and of the depthwise convolution that reads it


def images(split: str, n: int) -> data.ArrayDataset:
    """n images of 14 x 14."""
    x, y = data.fashion_mnist_small(split)[range(n)]
    return data.ArrayDataset(np.ascontiguousarray(x[:, :, ::2, ::2]), y)


@pytest.fixture(scope="module")
def sets() -> tuple[data.DataLoader, data.DataLoader, list]:
    train = images("train", 6000)
    return (data.DataLoader(train, 64, shuffle=True, drop_last=True, seed=0), data.DataLoader(images("test", 2000), 250),
            [train[range(i, i + 64)] for i in range(0, 512, 64)])


def fit(model: nn.Module, loader: data.DataLoader, epochs: int, lr: float) -> None:
    optimizer = optim.AdamW(model.parameters(), lr, weight_decay=0.05)
    schedule = optim.OneCycleLR(optimizer, lr, epochs * len(loader))
    tinyml.Trainer(model, optimizer, schedule=schedule, progress=False).fit(loader, epochs)


@pytest.fixture(scope="module")
def hard(sets) -> tuple[nn.Module, nn.Module]:
    """The net as trained, and scaled apart."""
    tinyml.manual_seed(0)
    model = models.DepthwiseCNN(in_channels=1, width=8)
    fit(model, sets[0], 3, 4e-3)
    model.eval()
    scaled = model.copy()
    conv, before, after = scaled[DEPTHWISE], scaled[NORM], scaled[DEPTHWISE + 1]
    gain = after.weight.data / np.sqrt(after.running_var.data + after.eps)
    c = int((np.abs(conv.weight.data).max(axis=(1, 2, 3)) * np.abs(gain)).argmax())
    before.weight.data[c] /= 100
    before.bias.data[c] /= 100
    conv.weight.data[c] *= 100
    return model, scaled


def points(model: nn.Module, other: nn.Module, tests: data.DataLoader) -> float:
    """How many points of accuracy `other` loses."""
    result = precision.compare(model, other, tests, show=False, seconds=0)
    return 100 * (result.a.accuracy - result.b.accuracy)


def test_per_tensor_collapses_and_per_channel_and_training_come_back(sets, hard):
    loader, tests, calibration = sets
    model, scaled = hard
    x = next(iter(tests))[0]
    with tinyml.no_grad():
        assert np.allclose(scaled(x).numpy(), model(x).numpy(), atol=1e-4)
    easy = points(model, model.to_int8(calibration=calibration, per_channel=False), tests)
    per_tensor = points(model, scaled.to_int8(calibration=calibration, per_channel=False), tests)
    per_channel = points(model, scaled.to_int8(calibration=calibration), tests)
    prepared = precision.prepare_qat(scaled, calibration, freeze_after=len(loader) // 2)
    fit(prepared, loader, 1, 3e-4)
    trained = points(model, prepared.to_int8(), tests)
    print(f"points lost: {easy:.2f} before scaling; {per_tensor:.2f} per tensor, {per_channel:.2f} per channel, "
          f"{trained:.2f} trained")
    # per channel is not held to a point: the scaled channel's input keeps two or three codes, and what that costs is the
    # luck of which channel it is
    assert easy < 1 and per_tensor > 5 and per_channel < per_tensor / 4 and trained < 1
