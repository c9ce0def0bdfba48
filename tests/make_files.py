"""Writes the files of tests/data/ that are missing: one of each kind, and in outputs.npz what each of them gives.

They stand for the files that users have, so none is ever written a second time; a new kind is a new row of KINDS.
`test_old_files.py` loads them. What they give is computed with TINYML_ISA=baseline, whose float kernels give the same bytes
on every machine: `TINYML_ISA=baseline python tests/make_files.py`.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

import tinyml
from tinyml import Trainer, models, nn, optim
from tinyml.nn import functional as F

FOLDER = Path(__file__).parent / "data"
CHARACTERS = "\n abcdefghijklmnopqrstuvwxyz"


def values(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal values with an offset, so that zero points differ from 0."""
    return (np.random.default_rng(seed).standard_normal(shape) + 0.4).astype(np.float32)


IMAGES, ROWS, IDS = values(3, 3, 8, 8), values(5, 12), np.random.default_rng(1).integers(0, 26, (3, 6))


class Everything(nn.Module):
    """A step of every kind, two inputs, islands, constants, some of which follow the batch."""

    def __init__(self):
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Linear(6, 5)
        self.table, self.norm, self.d = nn.Embedding(26, 5), nn.LayerNorm(5), nn.Linear(10, 6)

    def forward(self, x, ids):
        y = F.relu(self.a(x))
        y = F.sigmoid(F.max_pool2d(y + self.b(y), 2))
        y = F.adaptive_avg_pool2d(y, 2).permute(0, 2, 3, 1).reshape(len(x), 16)
        y = self.c(y[:, [0, 3, 3, 7, 9, 15]])
        y = self.norm(y) * self.table(ids).mean(dim=1) + y * y
        y = F.cat([F.cat([y, x.mean((2, 3))], dim=1), np.ones((len(x), 1), np.float32)], dim=1)
        return self.d(F.pad(y, (1, 0), value=0.5)).clip(-3.0, 7.0) @ np.ones((6, 2), np.float32)


def ready(model: nn.Module) -> nn.Module:
    """The model with parameters and running moments as after training."""
    rng = np.random.default_rng(5)
    for name, t in model.named_tensors():
        if name.endswith("running_var"):
            t.array[...] = rng.uniform(0.5, 2, t.shape)
        else:
            t.array[...] += rng.uniform(-0.2, 0.2, t.shape).astype(t.dtype)
    return model


def layers_of_images() -> nn.Module:
    return ready(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(8, 8, 3, 1, 1, groups=2), nn.ReLU6(), nn.AvgPool2d(2), models.cnn.Residual(8, 8, 1),
                         nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 16), nn.BatchNorm1d(16), nn.Tanh(),
                         nn.Dropout(0.25), nn.Linear(16, 12), nn.RMSNorm(12, eps=1e-5), nn.Sigmoid(), nn.SiLU(),
                         nn.Softmax()))


def layers_of_text() -> nn.Module:
    return ready(nn.Sequential(nn.Embedding(26, 16), nn.LayerNorm(16),
                         nn.SelfAttention(16, 4, kv_heads=2, rotary=nn.Rotary(4)), nn.Linear(16, 24), nn.GELU("tanh"),
                         nn.Linear(24, 26, bias=False)))


def changed() -> nn.Module:
    """A model with attributes that were changed after it was built."""
    model = ready(models.MLP(12, 8, 3))
    for m in model.modules():
        if isinstance(m, nn.Linear):
            m.note = ("kept", 1.5, [True, None])
    return model


def tiny_gpt(**options) -> models.TinyGPT:
    sizes = {"vocab_size": len(CHARACTERS), "context": 8, "layers": 2, "heads": 4, "dim": 16, "characters": CHARACTERS}
    return models.TinyGPT.from_config(models.TinyGPTConfig(**{**sizes, **options}))


def trained_for_int8() -> nn.Module:
    """A plan of quantization-aware training, past the freeze."""
    model = tinyml.precision.prepare_qat(ready(models.CifarCNN(width=4)), IMAGES, learn_scales=True, freeze_after=2)
    optimizer = optim.SGD(model.parameters(), 0.01)
    for _ in range(4):
        F.cross_entropy(model.train()(IMAGES), np.arange(3)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.to_int8()


BOTH = [((IMAGES, IDS), None)]
KINDS = {   # how the model of each file is made, and its inputs
    "module-images": (layers_of_images, (IMAGES,)),
    "module-text": (layers_of_text, (IDS,)),
    "module-attributes": (changed, (ROWS,)),
    "module-resnet": (lambda: ready(models.ResNet8(width=4)), (IMAGES,)),
    "float16": (lambda: ready(models.DepthwiseCNN(width=4)).to_fp16(), (IMAGES,)),
    "dynamic-cnn": (lambda: ready(models.CifarCNN(width=4)).to_int8(), (IMAGES,)),
    "dynamic-groups": (lambda: ready(models.MLP(12, 40, 3)).to_int8(group=32), (ROWS,)),
    "static": (lambda: ready(models.ResNet8(width=4)).to_int8(calibration=IMAGES), (IMAGES,)),
    "static-double": (lambda: ready(models.CifarCNN(width=4)).to_int8(calibration=IMAGES, rounding="double", weights="mse",
                                                               repairs=["equalize", "correct_bias"]), (IMAGES,)),
    "static-everything": (lambda: ready(Everything()).to_int8(calibration=BOTH), (IMAGES, IDS)),
    "static-skipped": (lambda: ready(Everything()).to_int8(calibration=BOTH, skip=["a", "d"]), (IMAGES, IDS)),
    "static-gpt": (lambda: ready(tiny_gpt()).to_int8(calibration=IDS), (IDS,)),
    "trained": (trained_for_int8, (IMAGES,)),
    "compiled": (lambda: ready(Everything()).compile(IMAGES, IDS), (IMAGES, IDS)),
    "gpt": (tiny_gpt, (IDS,)),
    "gpt-llama": (lambda: tiny_gpt(dim=32, kv_heads=2, norm="rms", positions="rotary", activation="swiglu",
                                   bias=False).to_int8(group=32), (IDS,)),
}


def run_of(folder: Path) -> Trainer:
    """A trainer in `folder`, whose checkpoint.safetensors and best.safetensors are the kind "run"."""
    tinyml.manual_seed(0)
    model = models.MLP(12, 16, 3)
    optimizer = optim.AdamW(model.parameters(), 0.01)
    return Trainer(model, optimizer, schedule=optim.LinearWarmup(optimizer, 12), checkpoint_dir=folder, progress=False)


RUN = [(ROWS, np.arange(5) % 3), (2 * ROWS, np.arange(5) % 2)] * 2


def resumed() -> dict[str, np.ndarray]:
    """What the model of the kind "run" gives after one more epoch, and what its best weights give."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(FOLDER / "run", folder, dirs_exist_ok=True)
        trainer = run_of(Path(folder))
        trainer.fit(RUN, 3, validation=RUN[:1], resume=True)
        found = {"run": trainer.predict([ROWS])}
        read_best = run_of(Path(folder))
        read_best.checkpoint_dir.joinpath("best.safetensors").write_bytes((FOLDER / "run/best.safetensors").read_bytes())
        read_best.load_best()
        return {**found, "run-best": read_best.predict([ROWS])}


def outputs() -> dict[str, np.ndarray]:
    """What each file gives."""
    given = {name: tinyml.load(FOLDER / f"{name}.safetensors")(*inputs).numpy() for name, (_, inputs) in KINDS.items()}
    return given | resumed()


def main() -> None:
    if tinyml.config()["isa"] != "baseline":
        sys.exit("make_files: expected TINYML_ISA=baseline, whose floats are the same everywhere")
    FOLDER.mkdir(exist_ok=True)
    for name, (make, _) in KINDS.items():
        path = FOLDER / f"{name}.safetensors"
        if not path.exists():
            tinyml.manual_seed(0)
            make().save(path)
    if not (FOLDER / "run").exists():
        run_of(FOLDER / "run").fit(RUN, 2, validation=RUN[:1])
    before = FOLDER / "outputs.npz"
    np.savez(before, **{**outputs(), **(dict(np.load(before)) if before.exists() else {})})


if __name__ == "__main__":
    main()
