"""The numbers that explain why int8 is up to four times as fast: lanes, instructions per cycle, bytes, whole networks.

docs/why-int8.md explains what each number means, under the same headings.
"""

from __future__ import annotations

from functools import partial
from textwrap import indent

import numpy as np

import tinyml
from tinyml import models
from tinyml._kernels.dispatch import active
from tinyml.plan.plan import Plan
from tinyml.plan.product_steps import Product
from tinyml.plan.steps import Step
from tinyml.tables import layout

from . import ours
from .layers import linear
from .timing import Run, Timing, alternate

BATCH, IMAGE = 64, (3, 32, 32)
ONE_ROW = (1, 768, 3072)
# the instructions of a multiply-add of vectors: float32, int8
WORDS = {
    "avx512_vnni": ("vfmadd231ps", "vpdpbusd"),
    "avx512": ("vfmadd231ps", "2 vpmaddwd + 2 vpaddd, and widening bytes once for a row or column of the tile"),
    "avx_vnni": ("vfmadd231ps", "vpdpbusd"),
    "avx2": ("vfmadd231ps", "2 vpmaddwd + 2 vpaddd, and widening bytes once for a row or column of the tile"),
    "neon_dotprod": ("fmla", "sdot"),
    "neon": ("fmla", "2 smull, 2 saddlp, addp and add"),
    "baseline": ("a multiplication and an addition", "4 multiplications and additions, and shifts"),
}


def lines(*rows: tuple[str, ...]) -> list[str]:
    """One line per number: what it is, the number, more about it."""
    return indent(layout([[*row, ""][:3] for row in rows], left=(0, 2), rules=()), "  ").splitlines()


def lanes() -> list[str]:
    """How many multiply-adds one instruction does."""
    fma, dot4 = WORDS[active.isa]
    return ["Lanes", *lines(("bits of a vector", f"{32 * active.lanes}", active.isa),
                            ("float32 lanes", f"{active.lanes}", "one multiply-add each"),
                            ("bytes", f"{4 * active.lanes}", "four multiply-adds in each int32 lane"),
                            ("multiply-adds of fma", f"{active.lanes}", fma),
                            ("multiply-adds of dot4", f"{4 * active.lanes}", dot4))]


def ports(run: Run) -> list[str]:
    """How many of these instructions run per cycle: the peaks divided by the clock."""
    p = run.roofline.peaks[0]
    found = [("clock", f"{p.clock / 1e9:.2f} GHz", "from additions that wait for each other, one per cycle")]
    for name, peak, width in (("fma", p.fma, active.lanes), ("dot4", p.dot4, 4 * active.lanes)):
        found += [(f"peak of {name}", f"{peak / 1e9:.0f} Gop/s", "two operations per multiply-add"),
                  (f"{name} per cycle", f"{peak / 2 / width / p.clock:.2f}")]
    return ["Instructions per cycle, on one core", *lines(*found, ("dot4's peak / fma's", f"{p.dot4 / p.fma:.2f}"))]


def weight_bytes(run: Run) -> list[str]:
    """The time to read a weight, and when reading takes longer than arithmetic."""
    p, layer = run.roofline.peaks[-1], linear(*ONE_ROW)
    found = [("memory is read at", f"{p.read / 1e9:.1f} GB/s")]
    for name, peak, size in (("float32", p.fma, 4), ("int8", p.dot4, 1)):
        found += [(f"{name}: bytes per weight", f"{size}"),
                  (f"{name}: weights per second from memory", f"{p.read / size / 1e9:.1f} G"),
                  (f"{name}: operations per byte that keep it busy", f"{peak / p.read:.0f}", "peak / memory"),
                  (f"{name}: operations per byte of {'x'.join(map(str, ONE_ROW))}",
                   f"{layer.operations / layer.nbytes(size, size):.2f}")]
    return [f"Bytes, on {p.threads} thread{'s' if p.threads > 1 else ''}", *lines(*found)]


def profile(plan: Plan, x: np.ndarray, seconds: float) -> list[tuple[Step, int, Timing]]:
    """Each step of a plan with one input, with its operations and its time, measured alone."""
    values = {plan.inputs[0].value: x}
    functions, operations = {}, []
    for step in plan.steps:
        given = [values[i] for i in step.inputs]
        values[step.output] = y = step.run(given, len(x))
        functions[str(len(functions))] = partial(step.run, given, len(x))
        operations.append(2 * y.size * step.layer.k * step.layer.window.taps if isinstance(step, Product) else 0)
    return list(zip(plan.steps, operations, alternate(functions, seconds).values()))


def network(run: Run) -> list[str]:
    """Where the time of an int8 network goes, and how much faster products could make it (Amdahl 1967)."""
    tinyml.manual_seed(0)
    model = models.CifarCNN().eval()
    x = np.random.default_rng(0).standard_normal((BATCH, *IMAGE), np.float32)
    plan = model.to_int8(calibration=[x])
    with tinyml.no_grad():
        whole = alternate({"float32": ours.model(model.compile(x), x).call, "int8": ours.model(plan, x).call}, run.seconds)
        steps = profile(plan, x, run.seconds)
    peak, total = run.roofline.peaks[-1].dot4, sum(t.median for _, _, t in steps)
    table = [["step", "layer", "ms", "share", "Gop/s", "of dot4"]]
    for step, n, t in steps:
        speed = [f"{n / t.median / 1e9:.0f}", f"{n / t.median / peak:.0%}"] if n else ["", ""]
        table.append([step.attrs.get("op", step.kind), step.name, f"{1e3 * t.median:.3f}", f"{t.median / total:.1%}",
                      *speed])
    products = sum(t.median for _, n, t in steps if n)
    least = total - products + sum(n for _, n, _ in steps) / peak
    whole_f32, whole_int8 = (whole[form].median for form in ("float32", "int8"))
    return [f"What is left of it in CifarCNN, batch {BATCH}",
            *lines(("float32", f"{1e3 * whole_f32:.2f} ms"),
                   ("int8", f"{1e3 * whole_int8:.2f} ms", f"{whole_f32 / whole_int8:.2f}x as fast")), "",
            *indent(layout(table), "  ").splitlines(), "",
            *lines(("all steps", f"{1e3 * total:.2f} ms"), ("all steps but products", f"{1 - products / total:.1%}"),
                   ("with every product at dot4's peak", f"{1e3 * least:.2f} ms",
                    f"{whole_f32 / least:.2f}x as fast as float32 is now"))]


def explain(run: Run) -> str:
    """The text of all sections."""
    return "\n\n".join("\n".join(part) for part in (lanes(), ports(run), weight_bytes(run), network(run)))
