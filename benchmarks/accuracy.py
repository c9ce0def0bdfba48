"""What lower precision costs, over several seeds: float32, static int8 with each observer, QAT, dynamic int8 and float16.

    python -m benchmarks.accuracy fashion cifar shakespeare --cifar cifar.npz --text shakespeare.txt

fashion: CifarCNN (width 16) on all of Fashion-MNIST. cifar: CifarCNN on a .npz (x_train, y_train, x_test, y_test).
shakespeare: TinyGPT on a text file, its loss over all windows of the last 10%. Float models are trained once and kept in
--models, so that a second run only converts them. "equally long" and QAT both continue the training of the float
model, with the same batches and schedule. The command prints tables, compares figures with those that they must
reach, and exits with code 1 if one does not reach it.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

import tinyml
from tinyml import nn, precision
from tinyml.metrics import cross_entropies
from tinyml.options import OBSERVER
from tinyml.precision.analysis.paired import Paired
from tinyml.tables import layout

from .training import Task, cifar, fashion, shakespeare

EPOCHS = {"fashion": 1, "cifar": 2}     # of the further training, by QAT and by "float32, equally long"
LEARNED = ("cifar",)                    # tasks that train a second time, with learned scales
LR = 3e-4


@dataclass
class Against:
    """The figures of one form of a model, and their change against a float model on the same tests, one value per seed."""

    form: str
    baseline: str
    accuracy: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    points: list[float] = field(default_factory=list)       # the change of the accuracy, in hundredths
    rise: list[float] = field(default_factory=list)         # the change of the loss
    agreement: list[float] = field(default_factory=list)
    noise: list[float] = field(default_factory=list)        # half the 95% interval of `points`
    divergence: list[float] = field(default_factory=list)   # the mean of sum p ln(p / q), p from the baseline

    def add(self, logits: np.ndarray, baseline: np.ndarray, targets: np.ndarray) -> None:
        """Add the outputs of one seed."""
        counted = np.ones(targets.shape, bool)
        right, loss = Paired(), Paired()
        right.add(*(o.argmax(-1) == targets for o in (baseline, logits)), counted)
        loss.add(*(cross_entropies(o, targets, counted) for o in (baseline, logits)), counted)
        (_, b), (before, after) = right.means(), loss.means()
        lo, hi = right.matched_interval() if targets.ndim == 1 else right.interval()
        self.accuracy.append(b)
        self.loss.append(after)
        self.points.append(100 * (b - right.means()[0]))
        self.rise.append(after - before)
        self.agreement.append(float((logits.argmax(-1) == baseline.argmax(-1)).mean()))
        self.noise.append(50 * (hi - lo))
        p, q = (log_softmax(o) for o in (baseline, logits))
        self.divergence.append(float((np.exp(p) * (p - q)).sum(-1).mean()))

    def row(self) -> list[str]:
        """The row of the table."""
        return [self.form, self.baseline, f"{mean(self.accuracy):.2%}", f"{mean(self.points):+.2f}",
                f"{mean(self.loss):.4f}", f"{mean(self.rise):+.4f}", f"{mean(self.agreement):.2%}",
                f"{1000 * mean(self.divergence):.3f}",
                ", ".join(f"{r:+.4f}" for r in self.rise)]


HEAD = ["form", "against", "accuracy", "points", "loss", "change", "same prediction", "divergence (1/1000)",
        "change of the loss, by seed"]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """ln softmax over the last axis, in float64."""
    x = logits.astype(np.float64)
    x -= x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def outputs(model: nn.Module, task: Task) -> np.ndarray:
    """The model's logits for all test samples."""
    model.eval()
    with tinyml.no_grad():
        return np.concatenate([model(x).numpy() for x, _ in task.tests])


def targets_of(task: Task) -> np.ndarray:
    """The class of each test sample."""
    return np.concatenate([tinyml.Tensor(y).array for _, y in task.tests])


def measure(task: Task, seeds: list[int], models: Path) -> dict[str, Against]:
    """Measure every form of the task's model with each seed."""
    found: dict[str, Against] = {}
    targets = targets_of(task)

    def note(form: str, model: nn.Module, baseline: str, than: np.ndarray) -> np.ndarray:
        logits = outputs(model, task)
        found.setdefault(form, Against(form, baseline)).add(logits, than, targets)
        print(f"  {form}: {found[form].accuracy[-1]:.2%}, loss {found[form].loss[-1]:.4f} ({found[form].rise[-1]:+.4f})",
              flush=True)
        return logits

    for seed in seeds:
        model = task.load_or_train(seed, models)
        print(f"{task.name}, seed {seed}", flush=True)
        base = outputs(model, task)
        note("float32", model, "", base)
        if task.calibration is None:
            note("int8, dynamic", model.to_int8(), "float32", base)
            note("float16", model.to_fp16(), "float32", base)
            continue
        for observer in precision.OBSERVERS:
            note(f"int8, {observer}", model.to_int8(calibration=task.calibration, observer=observer), "float32", base)
        for form, options in {"int8, per tensor": {"per_channel": False}, "int8, weights by mse": {"weights": "mse"},
                              "int8, double rounding": {"rounding": "double"}}.items():
            note(form, model.to_int8(calibration=task.calibration, **options), "float32", base)
        note("int8, dynamic", model.to_int8(), "float32", base)
        note("float16", model.to_fp16(), "float32", base)
        longer = model.copy()
        task.fit(longer, EPOCHS[task.name], LR, seed + 100)
        than = note("float32, equally long", longer, "float32", base)
        steps = EPOCHS[task.name] * len(task.batches(seed))
        forms = {"int8, QAT": False} | ({"int8, QAT, learned scales": True} if task.name in LEARNED else {})
        for form, learn in forms.items():
            prepared = precision.prepare_qat(model, task.calibration, learn_scales=learn, freeze_after=steps // 2)
            task.fit(prepared, EPOCHS[task.name], LR, seed + 100)
            note(form, prepared.to_int8(), "float32, equally long", than)
    return found


def requirements(name: str, found: dict[str, Against]) -> list[tuple[str, float, str, float]]:
    """What the figures of a task must reach: (name, value, ">=" or "<=", bound)."""
    static = found.get(f"int8, {OBSERVER}")
    if name == "fashion":
        qat = found["int8, QAT"]
        pooled = float(np.hypot.reduce(qat.noise)) / len(qat.noise)
        return [("float32 accuracy", 100 * mean(found["float32"].accuracy), ">=", 92.5),
                (f"static int8 ({OBSERVER}): change in points", mean(static.points), ">=", -0.1),
                ("static int8: same prediction", 100 * mean(static.agreement), ">=", 99.3),
                (f"QAT: change in points, against a noise of {pooled:.2f}", mean(qat.points), ">=", -pooled)]
    if name == "cifar":
        return [(f"static int8 ({OBSERVER}): change of the loss", mean(static.rise), "<=", 0.005),
                ("QAT: change of the loss", mean(found["int8, QAT"].rise), "<=", 0.01)]
    return [("dynamic int8: change of the loss", mean(found["int8, dynamic"].rise), "<=", 0.003),
            ("float16: change of the loss", mean(found["float16"].rise), "<=", 0.0005)]


def main() -> int:
    """Measure the given tasks, and print the tables and whether the figures reach what they must."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", choices=("fashion", "cifar", "shakespeare"), default=["fashion"])
    parser.add_argument("--cifar", metavar="FILE", help="the .npz of task cifar")
    parser.add_argument("--text", metavar="FILE", help="the text of task shakespeare")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--models", type=Path, default=Path("build/models"), help="the folder where float models are kept")
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE")
    args = parser.parse_args()
    for task, option in (("cifar", args.cifar), ("shakespeare", args.text)):
        if task in args.tasks and option is None:
            parser.error(f"task {task} needs --{'cifar' if task == 'cifar' else 'text'} FILE")
    make = {"fashion": fashion, "cifar": lambda: cifar(args.cifar), "shakespeare": lambda: shakespeare(args.text)}
    results: dict[str, Any] = {name: measure(make[name](), args.seeds, args.models) for name in args.tasks}
    missed = 0
    for name, found in results.items():
        table = layout([HEAD, *(a.row() for a in found.values())], (0, 1), markdown=True)
        print(f"\n{name}, means of {len(args.seeds)} seeds\n\n{table}\n")
        for what, value, sign, bar in requirements(name, found):
            met = value >= bar if sign == ">=" else value <= bar
            missed += not met
            print(f"- {what}: {value:.4f} {sign} {bar:.4f}: {'met' if met else 'MISSED'}")
    if args.json:
        figures = {name: {form: vars(a) for form, a in found.items()} for name, found in results.items()}
        Path(args.json).write_text(json.dumps(figures, indent=1))
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
