"""Training steps as data, so that tinyml, its peers and separate processes run the same; and the steps in tinyml."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import tinyml
from tinyml import Tensor, models, nn, optim
from tinyml.nn import functional as F
from tinyml.tape import record

from .prepared import Prepared


@dataclass(frozen=True)
class Step:
    """One training step on one batch: zero_grad, forward, cross entropy, backward, clipping if `clip` is given, AdamW."""

    model: str                                  # its name in tinyml.models
    arguments: tuple[int | bool, ...]           # the arguments of its constructor
    batch: int
    sample: tuple[int, ...]                     # the shape of one input: ids for TinyGPT, else floats
    classes: int
    biases: bool = True                         # False: nanoGPT's bias=False
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    vectors_decay: bool = True                  # False: weight decay on matrices only, as in nanoGPT
    clip: float | None = None

    def make(self) -> nn.Module:
        """The model in training mode; every call gives the same parameters."""
        tinyml.manual_seed(0)
        model = getattr(models, self.model)(*self.arguments)
        for m in () if self.biases else model.modules():
            if isinstance(m, (nn.Linear, nn.LayerNorm)):
                m.bias = None
        for p in () if self.vectors_decay else model.parameters():
            p.decay = p.ndim > 1
        return model

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """A batch of inputs and targets, the same at every call. The targets of a language model are the next ids."""
        rng = np.random.default_rng(0)
        if self.model == "TinyGPT":
            ids = rng.integers(0, self.classes, (self.batch, self.sample[0] + 1))
            return np.ascontiguousarray(ids[:, :-1]), np.ascontiguousarray(ids[:, 1:])
        return (rng.standard_normal((self.batch, *self.sample), np.float32), rng.integers(0, self.classes, self.batch))


# The models and sizes whose training is measured; nanoGPT is its configuration for Shakespeare on a CPU
STEPS = {
    "CifarCNN, batch 64": Step("CifarCNN", (), 64, (3, 32, 32), 10),
    "GPT d384 L6, 8x256": Step("TinyGPT", (256, 256, 6, 6, 384, 0, False), 8, (256,), 256),
    "GPT d128 L4, 12x64": Step("TinyGPT", (65, 64, 4, 4, 128, 0, False), 12, (64,), 65),
    "nanoGPT d128 L4, 12x64": Step("TinyGPT", (65, 64, 4, 4, 128), 12, (64,), 65, biases=False, betas=(0.9, 0.99),
                                   weight_decay=0.1, vectors_decay=False, clip=1.0),
    "MLP 784-512-10, batch 128": Step("MLP", (784, 512, 10), 128, (784,), 10),
}


def outcome(loss: float, gradient: np.ndarray) -> np.ndarray:
    """What is compared of a step: the loss, then the gradient of the model's first parameter."""
    return np.concatenate([[loss], gradient.ravel()])


def training(step: Step) -> Prepared:
    """The step in tinyml, on a new model; its array is the `outcome`."""
    model = step.make()
    inputs, targets = map(Tensor, step.data())
    parameters = list(model.parameters())
    optimizer = optim.AdamW(parameters, betas=step.betas, weight_decay=step.weight_decay)

    def call() -> Tensor:
        optimizer.zero_grad()
        loss = (model.default_loss or F.cross_entropy)(model(inputs), targets)
        loss.backward()
        if step.clip is not None:
            optim.clip_grad_norm_(parameters, step.clip)
        optimizer.step()
        return loss

    return Prepared(call, lambda loss: outcome(loss.item(), parameters[0].grad.numpy()))


def operations(step: Step) -> int:
    """The operations of all products of the step, two per multiply-add.

    The gradients of both operands take as many operations each as the forward; the model's input needs no gradient. In
    causal attention only pairs that are not masked count. Operations that are repeated to save memory do not count.
    """
    model = step.make()
    weights = {id(m.weight) for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))}
    total = 0
    with record() as ops:
        model(step.data()[0])
    for r in ops:
        # found by the weight, not by the op's name: a layer may be fused with the next one. Embeddings read ids first
        if len(r.inputs) > 1 and id(r.inputs[1]) in weights and r.inputs[0].dtype == np.float32:
            total += 2 * r.output.numel() * r.inputs[1].array[0].size * (3 if r.inputs[0].requires_grad else 2)
        elif r.op.name == "attention":
            *heads, t, size = r.output.shape        # two products for every pair (t, s) with s <= t
            total += 3 * 2 * 2 * size * int(np.prod(heads)) * t * (t + 1) // 2
    return total
