"""Makes parity/optim.npz and parity/nn.npz: what PyTorch computes where test_optim*.py and test_nn_torch.py compare.

    pip install torch==2.13.0
    python tests/make_optim_parity.py

The tests with mark `parity` compare the committed files with a fresh run of the functions here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "parity"

SHAPES = [(3, 4), (5,), (2, 3, 2, 2)]
STEPS = 12
OPTIMIZERS = {      # name -> class (the same name in PyTorch and tinyml), hyperparameters
    "sgd": ("SGD", {"lr": 0.1}),
    "sgd_decay": ("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    "sgd_momentum": ("SGD", {"lr": 0.05, "momentum": 0.9}),
    "sgd_all": ("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}),
    "adam": ("Adam", {}),
    "adam_all": ("Adam", {"lr": 0.02, "betas": (0.8, 0.95), "eps": 0.05, "weight_decay": 0.1}),
    "adamw": ("AdamW", {}),
    "adamw_all": ("AdamW", {"lr": 0.02, "betas": (0.5, 0.9), "eps": 0.02, "weight_decay": 0.5}),
}
ONE_CYCLES = {
    "usual": {"max_lr": 3e-3, "total_steps": 50},
    "all": {"max_lr": 0.5, "total_steps": 21, "pct_start": 0.45, "div_factor": 10.0, "final_div_factor": 50.0},
    "no_rise": {"max_lr": 1.0, "total_steps": 10, "pct_start": 0.0},
    "three_steps": {"max_lr": 1.0, "total_steps": 3},
    "one_step": {"max_lr": 1.0, "total_steps": 1},
}
CONVS = {       # name -> in_channels, out_channels, kernel_size, options
    "plain": (3, 4, 3, {}),
    "padded": (3, 4, 3, {"padding": 1, "bias": False}),
    "strided": (2, 3, (3, 2), {"stride": (2, 1), "padding": (0, 1)}),
    "dilated": (2, 3, 3, {"dilation": 2, "padding": 2}),
    "grouped": (4, 6, 3, {"groups": 2, "padding": 1}),
    "depthwise": (4, 4, 3, {"groups": 4, "stride": 2}),
    "pointwise": (5, 3, 1, {}),
}


def gradient(step: int) -> list[np.ndarray | None]:
    """Gradients of the parameters of SHAPES at one step; the second has none in steps 3 and 4."""
    rng = np.random.default_rng([1, step])
    grads = [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]
    return [None if i == 1 and step in (3, 4) else g for i, g in enumerate(grads)]


def initial() -> list[np.ndarray]:
    """Values of the parameters of SHAPES before the first step."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]


def run_optimizer(torch, name: str, out: dict[str, np.ndarray]) -> None:
    """Parameters after the first and the last of STEPS steps, the learning rate halved before step 6."""
    kind, options = OPTIMIZERS[name]
    parameters = [torch.nn.Parameter(torch.from_numpy(p)) for p in initial()]
    optimizer = getattr(torch.optim, kind)(parameters, **options)
    for step in range(STEPS):
        for p, g in zip(parameters, gradient(step), strict=True):
            p.grad = None if g is None else torch.from_numpy(g)
        if step == 6:
            optimizer.param_groups[0]["lr"] *= 0.5
        optimizer.step()
        if step in (0, STEPS - 1):
            out |= {f"{name}/{step}/{i}": p.detach().numpy().copy() for i, p in enumerate(parameters)}


def run_schedule(torch, make, steps: int) -> np.ndarray:
    """The learning rate at the start and after each of `steps` steps, from 0.25."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.25)
    schedule = make(optimizer)
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(steps):
        optimizer.step()
        schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return np.array(rates)


def optim(torch) -> dict[str, np.ndarray]:
    """The arrays of parity/optim.npz."""
    out: dict[str, np.ndarray] = {}
    for name in OPTIMIZERS:
        run_optimizer(torch, name, out)
    schedules = torch.optim.lr_scheduler
    for name, options in ONE_CYCLES.items():
        out[f"one_cycle/{name}"] = run_schedule(
            torch, lambda o, k=options: schedules.OneCycleLR(o, cycle_momentum=False, **k), options["total_steps"])
    out["cosine"] = run_schedule(torch, lambda o: schedules.CosineAnnealingLR(o, 20, eta_min=0.01), 20)
    out["warmup"] = run_schedule(torch, lambda o: schedules.LinearLR(o, 1 / 5, 1.0, 4), 8)
    parameters = [torch.nn.Parameter(torch.from_numpy(p)) for p in initial()]
    for p, g in zip(parameters, gradient(0), strict=True):
        p.grad = torch.from_numpy(g)
    out["clip/norm"] = np.array(torch.nn.utils.clip_grad_norm_(parameters, 1.5).item())
    return out | {f"clip/{i}": p.grad.numpy() for i, p in enumerate(parameters)}


def cnn_model(torch, width: int):
    """The architecture of tinyml.models.CifarCNN."""
    nn = torch.nn

    def block(i, o):
        return [nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]

    w = width
    return nn.Sequential(*block(3, w), *block(w, w), nn.MaxPool2d(2), *block(w, 2 * w), *block(2 * w, 2 * w),
                         nn.MaxPool2d(2), *block(2 * w, 4 * w), *block(4 * w, 4 * w), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(4 * w, 10))


def run_layer(torch, name: str, layer, x: np.ndarray, out: dict[str, np.ndarray]) -> None:
    """State, input, output, and the gradients for a drawn cotangent."""
    out |= {f"{name}/state/{key}": t.numpy().copy() for key, t in layer.state_dict().items()}
    given = torch.from_numpy(x).requires_grad_()
    y = layer(given)
    cotangent = np.random.default_rng(5).standard_normal(tuple(y.shape)).astype(np.float32)
    y.backward(torch.from_numpy(cotangent))
    out |= {f"{name}/x": x, f"{name}/y": y.detach().numpy(), f"{name}/cotangent": cotangent,
            f"{name}/grad_x": given.grad.numpy()}
    out |= {f"{name}/grad/{key}": p.grad.numpy() for key, p in layer.named_parameters()}


def run_cnn(torch, rng: np.random.Generator, out: dict[str, np.ndarray]) -> None:
    """Logits in both modes, loss and gradients in training, the state before and after that one forward."""
    model = cnn_model(torch, width=4)
    for name, t in model.state_dict().items():      # moments and scales other than 0 and 1
        if t.ndim == 1 and not name.endswith("num_batches_tracked"):
            t.copy_(torch.from_numpy(rng.uniform(0.5, 1.5, tuple(t.shape)).astype(np.float32)))
    x, targets = rng.standard_normal((5, 3, 8, 8)).astype(np.float32), np.array([0, 9, 3, 3, 7])
    out |= {f"cnn/state/{name}": t.numpy().copy() for name, t in model.state_dict().items()}
    with torch.no_grad():
        out["cnn/eval"] = model.eval()(torch.from_numpy(x)).numpy()
    logits = model.train()(torch.from_numpy(x))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(targets))
    loss.backward()
    out |= {"cnn/x": x, "cnn/targets": targets, "cnn/train": logits.detach().numpy(), "cnn/loss": loss.detach().numpy()}
    out |= {f"cnn/grad/{name}": p.grad.numpy() for name, p in model.named_parameters()}
    out |= {f"cnn/after/{name}": t.numpy().copy() for name, t in model.named_buffers()}


def run_batch_norm(torch, name: str, layer, xs: np.ndarray, out: dict[str, np.ndarray]) -> None:
    """Batches xs, the result of the last in training and in evaluation, the running moments after all."""
    for x in map(torch.from_numpy, xs):
        y = layer(x)
    out |= {f"{name}/x": xs, f"{name}/y": y.detach().numpy(), f"{name}/eval": layer.eval()(x).detach().numpy()}
    out |= {f"{name}/after/{key}": t.numpy().copy() for key, t in layer.named_buffers()}


def layers(torch) -> dict[str, np.ndarray]:
    """The arrays of parity/nn.npz."""
    torch.manual_seed(0)
    nn, rng, out = torch.nn, np.random.default_rng(2), {}

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    run_cnn(torch, rng, out)
    run_layer(torch, "linear", nn.Linear(6, 4), normal(2, 3, 6), out)
    run_layer(torch, "linear_no_bias", nn.Linear(6, 4, bias=False), normal(3, 6), out)
    for name, (i, o, size, options) in CONVS.items():
        run_layer(torch, f"conv_{name}", nn.Conv2d(i, o, size, **options), normal(2, i, 7, 6), out)
    norm = nn.LayerNorm(5)
    norm.load_state_dict({"weight": torch.from_numpy(normal(5)), "bias": torch.from_numpy(normal(5))})
    run_layer(torch, "layer_norm", norm, normal(2, 3, 5), out)
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    mask = torch.triu(torch.ones(4, 4, dtype=torch.bool), 1)

    class Causal(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = attention

        def forward(self, x):
            return self.attention(x, x, x, attn_mask=mask, need_weights=False)[0]

    run_layer(torch, "attention", Causal(), normal(3, 4, 8), out)
    run_batch_norm(torch, "batch_norm", nn.BatchNorm2d(3, momentum=0.3), normal(4, 2, 3, 2, 3) * 2 + 1, out)
    logits, targets = normal(6, 5), np.array([0, 4, -100, 2, 1, 2])
    out |= {"cross_entropy/logits": logits, "cross_entropy/targets": targets}
    for name, options in (("plain", {}), ("smooth", {"label_smoothing": 0.1}), ("ignore", {"ignore_index": 2})):
        given = torch.from_numpy(logits).requires_grad_()
        wanted = np.where(targets == -100, 2, targets) if name == "ignore" else targets
        loss = nn.functional.cross_entropy(given, torch.from_numpy(wanted), **options)
        loss.backward()
        out |= {f"cross_entropy/{name}": loss.detach().numpy(), f"cross_entropy/{name}_grad": given.grad.numpy()}
        given.grad = None
    for name, shape in (("batch_norm_rows", (4, 7, 3)), ("batch_norm_steps", (4, 2, 3, 5))):
        run_batch_norm(torch, name, nn.BatchNorm1d(3, momentum=0.3), normal(*shape) * 2 + 1, out)
    norm = nn.RMSNorm(5, eps=1e-5)
    norm.load_state_dict({"weight": torch.from_numpy(normal(5))})
    run_layer(torch, "rms_norm", norm, normal(2, 3, 5), out)
    return out


if __name__ == "__main__":
    import torch

    FOLDER.mkdir(exist_ok=True)
    for file, arrays in (("optim.npz", optim(torch)), ("nn.npz", layers(torch))):
        np.savez_compressed(FOLDER / file, **arrays)
        print(f"{FOLDER / file}: {len(arrays)} arrays, {(FOLDER / file).stat().st_size} bytes")
