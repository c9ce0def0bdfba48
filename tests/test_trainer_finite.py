"""Where a value that is not finite came from: Trainer names the first that went bad, and undoes the step."""

from __future__ import annotations

import math

import numpy as np
import pytest
from trainers import NormedAndTied, batches, separable, trainer, weights

import tinyml.random
from tinyml import nn, optim
from tinyml.data import TextDataset
from tinyml.errors import NonFiniteError
from tinyml.models import MLP, CifarCNN, TinyGPT
from tinyml.nn import functional as F
from tinyml.tensors import Tensor
from tinyml.trainer import Trainer


def run_into(t, loader, epochs=1):
    """The error's text; checks that the failed step changed nothing."""
    seen = {}

    class Watched:
        def __iter__(self):
            for batch in loader:
                seen.update(before=weights(t.model), lr=t.optimizer.lr, random=tinyml.random.get_state())
                yield batch

    with np.errstate(all="ignore"), pytest.raises(NonFiniteError) as caught:
        t.fit(Watched(), epochs)
    assert weights(t.model) == seen["before"] and t.optimizer.lr == seen["lr"]
    assert t.model.training and tinyml.random.get_state() == seen["random"]
    return str(caught.value)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_bad_input_is_named(bad):
    data = batches(separable())
    data[2][0][5, 1] = bad
    text = run_into(trainer(NormedAndTied()), data)
    assert text.startswith("epoch 1, step 3: expected a finite loss, got nan; the first to go bad: ")
    assert text.endswith(f"the batch's inputs: {bad} at index (5, 1) of shape (16, 3)")


def test_a_bad_target_is_named():
    data = [(x, x.copy()) for x, _ in batches(separable())]
    data[1][1][0, 2] = math.inf
    text = run_into(trainer(MLP(3, 3), loss=F.mse_loss), data)
    assert "epoch 1, step 2" in text and "got inf" in text and "batch's targets: inf at index (0, 2)" in text


def test_a_bad_parameter_is_named():
    t = trainer(CifarCNN(width=2))
    t.model[3].weight.array[1, 0, 2, 2] = math.nan
    data = [(np.zeros((2, 3, 4, 4), np.float32), np.array([0, 1]))]
    assert "parameter 3.weight: nan at index (1, 0, 2, 2) of shape (2, 2, 3, 3)" in run_into(t, data)


def test_the_op_and_layer_where_numbers_overflow_are_named():
    t = trainer(TinyGPT(11, 4, 2, 2, 8))
    t.model.blocks[1].up.weight.array[:] = 3e38
    data = batches(TextDataset(np.arange(20) % 11, 4))
    text = run_into(t, data)        # the causal mask's -inf, which comes earlier, is none
    assert "the output of linear in layer blocks.1.up (Linear): " in text and " at index (0, 0, 0) of" in text


class Logarithm(nn.Module):
    """ln(x - shift), -inf or NaN for small x."""

    def __init__(self, shift):
        self.linear, self.shift = nn.Linear(3, 3), shift

    def forward(self, x):
        return self.linear((x - self.shift).log())


def test_the_first_of_several_bad_ops_is_named():
    t = trainer(nn.Sequential(Logarithm(0), Logarithm(0)))
    data = [(np.array([[1, 2, -3]], np.float32), np.array([0]))]
    text = run_into(t, data)
    assert "the output of log in layer 0 (Logarithm): nan at index (0, 2) of shape (1, 3)" in text


def test_a_shared_layer_goes_by_its_first_name():
    layer = Logarithm(2)
    text = run_into(trainer(nn.Sequential(layer, layer)), [(np.ones((1, 3), np.float32), np.array([0]))])
    assert "in layer 0 (Logarithm)" in text


def test_a_loss_over_no_target_is_named():
    data = [(np.ones((2, 3), np.float32), np.full(2, -1))]
    loss = lambda outputs, y: F.cross_entropy(outputs, y, ignore_index=-1)      # noqa: E731 - it hides its ignore_index
    text = run_into(trainer(loss=loss), data)
    assert "the output of cross_entropy in the loss: nan at index () of shape ()" in text


class Gamble(nn.Module):
    """Overflows for one draw in about eight."""

    def forward(self, x):
        return x * (np.float32(3e38) if tinyml.random.generator().random() < 1 / 8 else np.float32(1)) * np.float32(4)


def test_random_choices_are_repeated_to_find_the_op():
    for seed in range(5):
        tinyml.random.manual_seed(seed)
        model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.1), Gamble())
        text = run_into(trainer(model, lr=0.0), batches(separable()), 99)
        assert "the output of mul in layer 2 (Gamble): " in text


def test_a_bad_buffer_is_named_when_no_op_made_it():
    class Scaled(nn.Linear):
        def __init__(self):
            super().__init__(3, 3)
            self.factor = Tensor(np.float32([1, math.nan, 1]))

        def forward(self, x):
            return super().forward(x) * self.factor

    assert "the first to go bad: buffer factor: nan at index (1,)" in run_into(trainer(Scaled()), batches(separable()))


def test_a_bad_running_moment_does_not_stay():
    t = trainer(NormedAndTied())
    data = batches(separable())
    data[0][0][0, 0] = math.nan
    run_into(t, data)       # checks all of the state dict, running moments and their count included
    assert t.model.norm.num_batches_tracked.item() == 0


@pytest.mark.parametrize("bad", [3, 4])
def test_a_bad_batch_of_a_group_is_named_and_the_group_makes_no_update(bad):
    t = trainer(NormedAndTied(), accumulate=3, clip_norm=1.0)
    data = batches(separable(100))
    data[bad][0][0, 0] = math.inf
    assert f"epoch 1, step {bad + 1}: " in run_into(t, data)
    assert t.optimizer.updates == [1] * len(t.optimizer.updates) and t.model.norm.num_batches_tracked.item() == bad


# ---- gradients


class Root(nn.Module):
    """sqrt(|Wx| 0): 0 forward, infinite slope."""

    def __init__(self):
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        return self.fc(x) + (self.fc(x) * 0).sqrt()


def test_a_bad_gradient_is_named_when_gradients_are_clipped():
    data = batches(separable())
    text = run_into(trainer(Root(), clip_norm=1.0), data)
    assert text.startswith("epoch 1, step 1: expected finite gradients, got that of fc.weight: nan at index (0, 0)")
    text = run_into(trainer(Root()), data)       # without clipping the next step finds what it did
    assert "epoch 1, step 2" in text and "parameter fc.weight: nan" in text


def test_a_bad_gradient_of_a_parameter_outside_the_model_is_an_error():
    model, extra = MLP(3, 3), nn.Parameter(np.zeros(1, np.float32))

    def loss(outputs, targets):
        return F.cross_entropy(outputs, targets) + extra.sqrt().sum()

    t = Trainer(model, optim.SGD([*model.parameters(), extra], 0.1), loss=loss, clip_norm=1.0, progress=False)
    assert "got grad_norm: expected finite gradients" in run_into(t, batches(separable()))
