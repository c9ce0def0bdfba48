"""Trainer: the loop over epochs, with progress, validation, checkpoints, and a diagnosis of values gone bad."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from tqdm import tqdm

from . import random
from .errors import DtypeError, FileError, NonFiniteError, ShapeError
from .io.atomic import write_whole
from .nn import functional as F
from .nn.module import Module, Parameter
from .optim import Optimizer, Schedule, clip_grad_norm_
from .tape import Record, no_grad, record
from .tensor import FLOATS, Tensor, as_tensor

Metric = Callable[[np.ndarray, np.ndarray], float]


class Trainer:
    """Trains `model` with `optimizer` on batches (inputs, targets), minimising loss(model(inputs), targets).

    loss: a mean over the targets; integer targets equal to its ignore_index (-100 if it has none) do not count.
    schedule: steps after every batch. clip_norm: the largest norm of the gradient. checkpoint_dir: a folder, made if
    need be, for last.safetensors, best.safetensors (state dicts) and history.json. progress: bars on stderr.
    `history` has one dict an epoch, and grows over calls of `fit`.
    Raises DtypeError for arguments of other kinds, ShapeError where they do not belong together.
    """

    def __init__(self, model: Module, optimizer: Optimizer, loss: Callable[[Any, Any], Tensor] = F.cross_entropy,
                 schedule: Schedule | None = None, clip_norm: float | None = None,
                 checkpoint_dir: str | os.PathLike | None = None, progress: bool = True):
        for value, kind in ((model, Module), (optimizer, Optimizer), (schedule, Schedule)):
            if not isinstance(value, kind) and not (value is None and kind is Schedule):
                raise DtypeError(f"Trainer: expected a tinyml {kind.__name__}, got {type(value)}")
        if not {id(p) for p in model.parameters()} & {id(p) for p in optimizer.parameters}:
            raise ShapeError("Trainer: expected an optimizer of the model's parameters, got one of none of them")
        if schedule is not None and schedule.optimizer is not optimizer:
            raise ShapeError("Trainer: expected a schedule of the optimizer given, got one of another optimizer")
        if clip_norm is not None and not clip_norm > 0:
            raise ShapeError(f"Trainer: expected clip_norm above 0, got {clip_norm}")
        self.model, self.optimizer, self.loss, self.schedule = model, optimizer, loss, schedule
        self.clip_norm, self.progress = clip_norm, progress
        self.checkpoint_dir = None if checkpoint_dir is None else Path(checkpoint_dir)
        if self.checkpoint_dir is not None:
            self.checkpoint_dir.mkdir(parents=True, exist_ok=True)
        self.history: list[dict[str, float]] = []
        self._best: tuple[str, float] | None = None     # what the best checkpoint was chosen by, larger is better

    # -- training -----------------------------------------------------------------------------------------------------
    def fit(self, loader: Iterable, epochs: int, validation: Iterable | None = None,
            metric: str | Metric = "accuracy") -> list[dict[str, float]]:
        """Train for `epochs` passes over `loader`; `history`, whose dicts have epoch, train_loss, lr, seconds and, with
        `validation`, validation_loss and (class targets) validation_accuracy.

        metric chooses the best checkpoint: "accuracy" (else loss where there is none), "loss", of the validation (else
        of the training), or metric(outputs, targets) of a validation batch's ndarrays, averaged, larger is better.

        Raises:
            NonFiniteError: a loss, or with clip_norm a gradient, is not finite; names the first value that went bad.
                The model is as it was before that step.
            ShapeError: epochs below 1, no batch in an epoch, batches that are no pairs, an unknown metric.
        """
        if not isinstance(epochs, (int, np.integer)) or epochs < 1:
            raise ShapeError(f"fit: expected epochs to be a whole number of at least 1, got {epochs!r}")
        if metric not in ("accuracy", "loss") and not (callable(metric) and validation is not None):
            raise ShapeError("fit: expected metric 'accuracy', 'loss' or, with a validation loader, a function; "
                             f"got {metric!r} and {'no' if validation is None else 'a'} validation loader")
        with _mode(self.model, training=True):
            for _ in range(epochs):
                start = time.perf_counter()
                row: dict[str, float] = {"epoch": len(self.history) + 1}
                row["train_loss"], row["lr"] = self._train_epoch(loader, len(self.history) + 1)
                if validation is not None:
                    found = self.evaluate(validation, metric if callable(metric) else None)
                    row |= {f"validation_{key}": value for key, value in found.items() if key != "count"}
                row["seconds"] = time.perf_counter() - start
                self.history.append(row)
                if self.progress and validation is not None:
                    tqdm.write("  " + ", ".join(f"{k.replace('_', ' ')} {v:.4f}" for k, v in row.items()
                                                if k.startswith("validation")), file=sys.stderr)
                if self.checkpoint_dir is not None:
                    self._write_checkpoints(row, metric)
        return self.history

    def _train_epoch(self, loader: Iterable, epoch: int) -> tuple[float, float]:
        """One pass; the mean loss, and the learning rate of the last step."""
        total, count, step, lr = 0.0, 0, 0, self.optimizer.lr
        with tqdm(loader, desc=f"epoch {epoch}", disable=not self.progress, dynamic_ncols=True) as bar:
            for step, batch in enumerate(bar, start=1):
                x, y = _pair("fit", batch)
                lr = self.optimizer.lr
                loss = self._train_step(x, y, f"epoch {epoch}, step {step}")
                n = int(self._counted(y).sum())
                total, count = total + loss * n, count + n
                bar.set_postfix(loss=f"{total / max(count, 1):.4f}", lr=f"{lr:.2e}", refresh=False)
        if not step:
            raise ShapeError(f"fit: epoch {epoch}: no batch came from the {type(loader).__name__}; expected a "
                             "DataLoader or a list, which can be passed over once an epoch")
        return total / max(count, 1), lr

    def _train_step(self, x: Tensor, y: Tensor, where: str) -> float:
        generator = random.get_state()
        buffers = [(t, t.data.copy()) for _, t in self.model.named_tensors() if not isinstance(t, Parameter)]

        def undo() -> None:
            random.set_state(generator)
            for t, values in buffers:
                t.data[...] = values

        self.optimizer.zero_grad()
        try:
            loss = self._loss(self.model(x), y)
            value = loss.item()
            if not math.isfinite(value):
                undo()
                culprit = first_non_finite(self.model, lambda: self._loss(self.model(x), y), x, y)
                raise NonFiniteError(f"{where}: expected a finite loss, got {value}; the first to go bad: {culprit}")
            loss.backward()
            if self.clip_norm is not None:
                self._clip(where)
        except NonFiniteError:
            undo()
            raise
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        return value

    def _clip(self, where: str) -> None:
        try:
            clip_grad_norm_(self.optimizer.parameters, self.clip_norm)
        except NonFiniteError as error:
            found = (f"that of {name}: {bad}" for name, p in self.model.named_parameters()
                     if p.grad is not None and (bad := _bad(np.isfinite, p.grad.data)))
            culprit = next(found, str(error))       # the optimizer may hold parameters from outside the model
            raise NonFiniteError(f"{where}: expected finite gradients, got {culprit}") from error

    def _loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        loss = self.loss(outputs, targets)
        if not isinstance(loss, Tensor) or loss.size != 1:
            raise ShapeError("Trainer: expected the loss function to return a Tensor of one element, got "
                             + (f"shape {loss.shape}" if isinstance(loss, Tensor) else type(loss).__name__))
        return loss

    def _counted(self, targets: Tensor) -> np.ndarray:
        """Which targets the mean loss is over: class ids other than ignore_index, or samples."""
        if targets.dtype.kind not in "iu":
            return np.ones(len(targets), bool)
        return targets.data != getattr(self.loss, "ignore_index", -100)     # -100 is cross_entropy's default

    # -- using the model ----------------------------------------------------------------------------------------------
    def evaluate(self, loader: Iterable, metric: Metric | None = None) -> dict[str, float]:
        """{"loss", "accuracy", "count"} over `loader`, in evaluation mode, without gradients.

        Means over all samples, or over all target elements for class targets (B,) or (B, T) of logits (..., C);
        only those have an accuracy. With `metric`, "metric" is its mean.

        Raises:
            ShapeError: no batch, or batches that are no pairs.
        """
        loss, correct, score, count, scored = 0.0, 0, 0.0, 0, 0
        with _mode(self.model, training=False), no_grad():
            for batch in loader:
                x, y = _pair("evaluate", batch)
                counted = self._counted(y)
                n = int(counted.sum())
                if not n:
                    continue        # the mean over none is NaN
                outputs = self.model(x).dequantize()
                values = outputs.numpy()
                loss, count = loss + self._loss(outputs, y).item() * n, count + n
                if y.dtype.kind in "iu" and values.shape[:-1] == y.shape:
                    correct, scored = correct + int((values.argmax(-1) == y.data)[counted].sum()), scored + n
                if metric is not None:
                    score += float(metric(values, y.numpy())) * n
        if not count:
            raise ShapeError(f"evaluate: no batch with a target that counts came from the {type(loader).__name__}")
        accuracy = {"accuracy": correct / count} if scored == count else {}
        return {"loss": loss / count, **accuracy, "count": count,
                **({} if metric is None else {"metric": score / count})}

    def predict(self, loader: Iterable) -> np.ndarray:
        """The outputs for all batches (inputs, targets) or inputs, one after the other, in evaluation mode.

        Raises:
            ShapeError: no batch, or one array where batches are expected.
        """
        if isinstance(loader, (Tensor, np.ndarray)):
            raise ShapeError(f"predict: expected batches, got one array of shape {loader.shape}; pass [inputs]")
        with _mode(self.model, training=False), no_grad():
            outputs = [self.model(as_tensor(b) if isinstance(b, (Tensor, np.ndarray)) else _pair("predict", b)[0])
                       for b in loader]
        if not outputs:
            raise ShapeError(f"predict: no batch came from the {type(loader).__name__}")
        return np.concatenate([y.dequantize().numpy() for y in outputs])

    # -- checkpoints --------------------------------------------------------------------------------------------------
    def load_best(self) -> None:
        """Load the weights of best.safetensors into the model. Raises FileError where it is missing or damaged."""
        if self.checkpoint_dir is None:
            raise FileError("load_best: expected a Trainer with a checkpoint_dir, got none")
        path = self.checkpoint_dir / "best.safetensors"
        try:
            values = load_file(path)
        except (OSError, SafetensorError) as error:
            raise FileError(f"load_best: expected {path} as fit writes it: {error}") from error
        self.model.load_state_dict(values)

    def _write_checkpoints(self, row: dict[str, float], metric: str | Metric) -> None:
        kind, score = _score(row, metric)
        weights = save(self.model.state_dict())
        write_whole(self.checkpoint_dir / "last.safetensors", weights)
        if self._best is None or self._best[0] != kind or score > self._best[1]:
            write_whole(self.checkpoint_dir / "best.safetensors", weights)
            self._best = kind, score
        write_whole(self.checkpoint_dir / "history.json", json.dumps(self.history, indent=1).encode())


def _score(row: dict[str, float], metric: str | Metric) -> tuple[str, float]:
    """What the best epoch is chosen by, and its value here, larger is better; a NaN is worse than all."""
    wanted = "validation_metric" if callable(metric) else f"validation_{metric}"
    kind = next(key for key in (wanted, "validation_loss", "train_loss") if key in row)
    value = -row[kind] if kind.endswith("_loss") else row[kind]
    return kind, -math.inf if math.isnan(value) else value


@contextmanager
def _mode(model: Module, training: bool) -> Iterator[None]:
    """The whole model in training or evaluation mode, and every layer back in its own at the end."""
    before = [(m, m.training) for m in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for m, mode in before:
            m.training = mode


def _pair(what: str, batch: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise ShapeError(f"{what}: expected batches (inputs, targets), got {type(batch).__name__}"
                         + (f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""))
    return as_tensor(batch[0]), as_tensor(batch[1])


# -- where a value went bad -------------------------------------------------------------------------------------------
def first_non_finite(model: Module, forward: Callable[[], Any], inputs: Tensor, targets: Tensor) -> str:
    """Names the first of: the batch, a parameter, an op's output in a run of `forward`, a buffer, that is not finite.

    Of ops, the first that makes a NaN or an infinity from operands without: a causal mask adds infinities on purpose.
    """
    parameters = [(f"parameter {name}", p) for name, p in model.named_parameters()]
    for what, t in [("the batch's inputs", inputs), ("the batch's targets", targets), *parameters]:
        if bad := _bad(np.isfinite, t.data):
            return f"{what}: {bad}"
    with record() as records, np.errstate(all="ignore"):
        forward()
    paths = {id(m): f"layer {name} ({type(m).__name__})" if name else type(m).__name__
             for name, m in reversed(list(model.named_modules()))}      # reversed: a shared layer's first name stays
    for r in records:
        if bad := _made(r):
            return f"the output of {r.op.name} in {paths.get(id(r.module), 'the loss')}: {bad}"
    for name, t in model.named_tensors():
        if bad := _bad(np.isfinite, t.data):
            return f"buffer {name}: {bad}"
    return "none in a second run of the same forward"


def _made(r: Record) -> str | None:
    """The first NaN, else infinity, of an op's output, if its operands held none."""
    for good in (lambda a: ~np.isnan(a), lambda a: ~np.isinf(a)):
        bad = _bad(good, r.output.data)
        if bad and not any(_bad(good, t.data) for t in r.inputs if t is not None):
            return bad
    return None


def _bad(good: Callable[[np.ndarray], np.ndarray], a: np.ndarray) -> str | None:
    """The first element that is not `good` and where it is, or None."""
    if a.dtype not in FLOATS or good(a).all():
        return None
    at = tuple(int(i) for i in np.unravel_index(int(np.argmin(good(a))), a.shape))
    return f"{a[at]} at index {at} of shape {a.shape}"
