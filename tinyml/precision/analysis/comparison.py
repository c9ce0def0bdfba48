"""compare(model, int8_model, data): what int8 cost and gained, measured, and how certain the data make that."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from ... import checks
from ...batches import call, read_batches
from ...errors import ShapeError
from ...evaluation import run_models
from ...metrics import IGNORED, output_array, score_targets
from ...nests import count_samples
from ...nn.module import Module, conversions
from ...plan.plan import FLOAT_STEPS, Plan
from ...tables import Shown, layout
from ...tensors import INT8
from ...timing import LONGEST, median_times
from .paired import Interval, Paired

NOISE = 1.05        # times as long; on a shared machine, less may be noise


@dataclass
class Measured:
    """The figures of one model over the data.

    Attributes:
        loss: the mean loss; None without targets.
        accuracy: the share of targets that the model predicts, 0 to 1; None without class targets.
        memory_bytes: the bytes of the model in memory.
        file_bytes: the bytes of the file that `save` writes.
        latency_ms: the median time of the first batch, in milliseconds.
    """

    loss: float | None
    accuracy: float | None
    memory_bytes: int
    file_bytes: int
    latency_ms: float


@dataclass
class Comparison(Shown):
    """The figures of two models on the same data, which `compare` returns. It prints as a table.

    Attributes:
        a: the figures of the first model: its loss, accuracy (0 to 1), memory_bytes, file_bytes and latency_ms.
        b: the figures of the second model.
        agreement: the share of targets (or outputs) for which both models predict the same class, 0 to 1.
        samples: the number of those targets (or outputs).
        batch: the number of samples in the batch that was timed.
        names: the type that the weights of each model are stored in.
        accuracy_interval: the 95% interval of the change b - a of the accuracy, paired by item; None without an accuracy.
        loss_interval: the same of the loss; None without a loss.
        items: the number of independent items behind the intervals. An item is one index of the first dimension: a sample,
            or a sequence with all its targets.
        tolerance: the loss of accuracy, in points (hundredths), that `verdict` is about.

    Example:
        >>> import numpy as np
        >>> from tinyml import nn, precision
        >>> model, data = nn.Sequential(nn.Linear(2, 2)), [(np.float32([[0, 1]] * 1000), np.zeros(1000, int))]
        >>> found = precision.compare(model, model.to_int8(), data, show=False, seconds=0)
        >>> found.verdict, found.agreement, found.samples
        ('no worse', 1.0, 1000)
    """

    a: Measured
    b: Measured
    agreement: float
    samples: int
    batch: int
    names: tuple[str, str] = ("float32", "int8")
    accuracy_interval: Interval | None = None
    loss_interval: Interval | None = None
    items: int = 0
    tolerance: float = 0.5

    @property
    def verdict(self) -> str | None:
        """"no worse" if the interval of the accuracy lies wholly above -tolerance, "worse" if wholly below, else
        "inconclusive"; None without an accuracy.
        """
        if self.accuracy_interval is None:
            return None
        lo, hi = self.accuracy_interval
        limit = -self.tolerance / 100
        return "no worse" if lo > limit else "worse" if hi < limit else "inconclusive"

    @property
    def slower(self) -> str | None:
        """A sentence that says that the second model is slower than the first, and what to do; None if it is not."""
        a, b = self.a.latency_ms, self.b.latency_ms
        if b <= NOISE * a:
            return None
        way = ("small layers spend more on quantizing their inputs than they gain: to_int8(calibration=data) keeps codes "
               "from layer to layer, and skip=[...] leaves layers in float" if self.names[1] == "int8" else
               "it pays where layers can be fused and products are large; where nothing can, call the model itself")
        return f"{self.names[1]} takes {b / a:.2f} times as long as {self.names[0]} here: {way}"

    def as_dict(self) -> dict[str, Any]:
        """The figures and the verdict for JSON. An interval without bounds is None, as JSON has no infinity."""
        figures = {**asdict(self), "verdict": self.verdict, "slower": self.slower}
        for name in ("accuracy_interval", "loss_interval"):
            if figures[name] is not None and not np.isfinite(figures[name]).all():
                figures[name] = None
        return figures

    def _certainty(self) -> list[str]:
        """The intervals and the verdict in words."""
        changes = []
        if self.accuracy_interval is not None:
            lo, hi = self.accuracy_interval
            changes.append(f"accuracy {100 * lo:+.2f} to {100 * hi:+.2f} points")
        if self.loss_interval is not None:
            changes.append("loss {:+.4f} to {:+.4f}".format(*self.loss_interval))
        lines = [f"95% interval of the change: {', '.join(changes)}"] if changes else []
        points = f"{self.tolerance:g} points"
        if self.verdict == "inconclusive" and self.accuracy_interval is not None:
            lines.append(f"verdict: inconclusive at a tolerance of {points}: {self._shortage(*self.accuracy_interval)}")
        elif self.verdict is not None:
            lines.append(f"verdict: {'no worse' if self.verdict == 'no worse' else 'worse by more'} than {points}")
        return lines

    def _shortage(self, lo: float, hi: float) -> str:
        """How many samples would tell. An interval shrinks as 1 / sqrt(samples) around a change that stays the same."""
        half, distance = (hi - lo) / 2, abs((lo + hi) / 2 + self.tolerance / 100)
        if math.isinf(half):
            return "one sample alone shows no spread"
        if half >= 1000 * distance:
            return "the change is so close to it that no number of samples of this kind would tell"
        needed = max(self.items, math.floor(self.items * (half / distance) ** 2)) + 1
        return f"{self.items:,} samples are too few to tell, about {needed:,} would"

    def __str__(self) -> str:
        a, b = self.a, self.b
        rows = [("", *self.names, "change")]
        if a.accuracy is not None and b.accuracy is not None:
            change = f"{(b.accuracy - a.accuracy) * 100:+.2f} points"
            rows.append(("accuracy", f"{a.accuracy:.2%}", f"{b.accuracy:.2%}", change))
        if a.loss is not None and b.loss is not None:
            rows.append(("loss", f"{a.loss:.4f}", f"{b.loss:.4f}", f"{b.loss - a.loss:+.4f}"))
        rows += [
            ("bytes in memory", f"{a.memory_bytes:,}", f"{b.memory_bytes:,}",
             f"{b.memory_bytes / a.memory_bytes:.1%}" if a.memory_bytes else ""),
            ("bytes on disk", f"{a.file_bytes:,}", f"{b.file_bytes:,}", f"{b.file_bytes / a.file_bytes:.1%}"),
            (f"ms per batch of {self.batch}", f"{a.latency_ms:.2f}", f"{b.latency_ms:.2f}",
             f"{a.latency_ms / b.latency_ms:.2f}x as fast")]
        lines = [layout(rows), f"same prediction for {self.agreement:.2%} of {self.samples:,}", *self._certainty()]
        return "\n".join([*lines, *([self.slower] if self.slower else [])])


def _precision(model: Module) -> str:
    """The narrowest type that the model's weights are stored in; "compiled" for a plan without codes."""
    kinds = {t.dtype for _, t in model.named_tensors()}
    if isinstance(model, Plan):
        return "compiled" if all(isinstance(s, FLOAT_STEPS) for s in model.steps) else "int8"
    return "int8" if INT8 in kinds else "float16" if np.dtype(np.float16) in kinds else "float32"


def compare(model: Module, int8_model: Module, data: Iterable[Any], show: bool = True, seconds: float = 1.0,
            tolerance: float = 0.5) -> Comparison:
    """Run two models over the same data, in evaluation mode, and time them on its first batch.

    Args:
        model: the model to compare with, most often in float32.
        int8_model: the model that is compared with it.
        data: batches of inputs, or of (inputs, targets). Several inputs are a tuple, ((x1, x2), targets), or a dict from
            the names of forward's arguments. Integer targets give the accuracy and the cross entropy; -100 does not count.
            The classes are dimension 1 of the outputs, or the last one for language models. Float targets give the mean
            squared error.
        show: whether to print the table.
        seconds: how long to time, in seconds.
        tolerance: how many points of accuracy int8 may cost. `Comparison.verdict` says whether it is known not to.

    Returns:
        A Comparison, which prints as a table.

    Raises:
        ShapeError: no batch came or no target counts; the models give several outputs, or outputs of different shapes; the
            targets do not fit them; a number is out of range.
        DtypeError: targets are neither integers nor floats, or a model is not a tinyml model.

    Example:
        >>> import numpy as np
        >>> from tinyml import nn
        >>> model = nn.Sequential(nn.Linear(2, 2))
        >>> model[0].weight.data[...], model[0].bias.data[...] = np.eye(2), 0
        >>> data = [(np.float32([[1, 0], [0, 1]]), np.array([0, 0]))]
        >>> result = compare(model, model.to_int8(), data, show=False, seconds=0)
        >>> result.b.accuracy, result.agreement, result.verdict
        (0.5, 1.0, 'inconclusive')
    """
    for name, value in (("model", model), ("int8_model", int8_model)):
        checks.instance("compare", name, value, Module)
    show, seconds = checks.flag("compare", "show", show), checks.number("compare", "seconds", seconds, 0, LONGEST)
    tolerance = checks.number("compare", "tolerance", tolerance, 0)
    models = (model, int8_model)
    loss, right, agreed, count = Paired(), Paired(), 0, 0
    first, kinds, known = None, set(), next((m.default_loss for m in models if m.default_loss is not None), None)
    with run_models(models, read_batches("compare", data)) as run:
        for inputs, results, targets in run:
            outputs = [output_array("compare", result) for result in results]
            if outputs[0].shape != outputs[1].shape:
                raise ShapeError(f"compare: the models give results of shapes {outputs[0].shape} and {outputs[1].shape}")
            if not outputs[0].size:
                continue
            first = inputs if first is None else first
            scores = score_targets("compare", known, outputs, targets)
            kinds.add(scores.kind)
            if len(kinds) > 1:
                raise ShapeError(f"compare: expected all batches to be alike, got {' and '.join(sorted(kinds))}")
            if scores.losses:
                loss.add(scores.losses[0], scores.losses[1], scores.counted)
            if scores.right:
                right.add(scores.right[0], scores.right[1], scores.counted)
            same = scores.select(scores.classes[0] == scores.classes[1])
            agreed, count = agreed + int(same.sum()), count + same.size
        if first is None:
            raise ShapeError("compare: expected at least one batch of data, got none")
        if not count:
            raise ShapeError(f"compare: expected at least one target that counts, all are {IGNORED}")
        latency = median_times([partial(call, m, first) for m in models], seconds)
    losses = loss.means() if loss.items else (None, None)
    accuracies = right.means() if right.items else (None, None)
    one_each = right.items == right.sums[2]     # as many targets as items
    a, b = (Measured(losses[i], accuracies[i], m.nbytes, len(conversions["serialize"](m)), latency[i])
            for i, m in enumerate(models))
    result = Comparison(
        a, b, agreed / count, count, count_samples(first), (_precision(model), _precision(int8_model)),
        items=loss.items, tolerance=tolerance,
        accuracy_interval=(right.matched_interval() if one_each else right.interval()) if right.items else None,
        loss_interval=loss.interval() if loss.items else None)
    if show:
        print(result)
    return result
