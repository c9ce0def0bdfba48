"""The numbers that explain why int8 is up to four times as fast: lanes, instructions a cycle, bytes, what is left of it.

docs/why-int8.md says in words what each means, under the same headings.
"""

from __future__ import annotations

from functools import partial

import numpy as np

import tinyml
from tinyml import models
from tinyml._kernels.dispatch import active
from tinyml.plan.plan import Plan
from tinyml.plan.product_steps import Product
from tinyml.plan.steps import Step

from . import ours
from .layers import linear
from .timing import Run, Timing, alternate

BATCH, IMAGE = 64, (3, 32, 32)
ONE_ROW = (1, 768, 3072)
# what a multiply-add of vectors is made of
WORDS = {
    "avx512_vnni": ("vfmadd231ps", "vpdpbusd"),
    "avx512": ("vfmadd231ps", "2 vpmaddwd + 2 vpaddd, and widening bytes once for a row or column of the tile"),
    "avx_vnni": ("vfmadd231ps", "vpdpbusd"),
    "avx2": ("vfmadd231ps", "2 vpmaddwd + 2 vpaddd, and widening bytes once for a row or column of the tile"),
    "neon_dotprod": ("fmla", "sdot"),
    "neon": ("fmla", "2 smull, 2 saddlp, addp and add"),
    "baseline": ("a multiplication and an addition", "4 multiplications and additions, and shifts"),
}


def line(what: str, value: str, more: str = "") -> str:
    """One number with its name."""
    return f"  {what:48}{value:>14}  {more}".rstrip()


def lanes() -> list[str]:
    """How much one instruction does."""
    fma, dot4 = WORDS[active.isa]
    return ["Lanes", line("bits of a vector", f"{32 * active.lanes}", active.isa),
            line("float32 lanes", f"{active.lanes}", "one multiply-add each"),
            line("bytes", f"{4 * active.lanes}", "four multiply-adds in each int32 lane"),
            line("multiply-adds of fma", f"{active.lanes}", fma),
            line("multiply-adds of dot4", f"{4 * active.lanes}", dot4)]


def ports(run: Run) -> list[str]:
    """How many of them a cycle: the peaks over the clock."""
    p = run.roofline.peaks[0]
    found = ["Instructions a cycle, on one core", line("clock", f"{p.clock / 1e9:.2f} GHz", "from additions that wait for "
                                                       "each other, one a cycle")]
    for name, peak, width in (("fma", p.fma, active.lanes), ("dot4", p.dot4, 4 * active.lanes)):
        found += [line(f"peak of {name}", f"{peak / 1e9:.0f} Gop/s", "two operations a multiply-add"),
                  line(f"{name} a cycle", f"{peak / 2 / width / p.clock:.2f}")]
    return [*found, line("dot4's peak / fma's", f"{p.dot4 / p.fma:.2f}")]


def weight_bytes(run: Run) -> list[str]:
    """What a weight costs to read, and when reading is what takes the time."""
    p, layer = run.roofline.peaks[-1], linear(*ONE_ROW)
    found = [f"Bytes, on {p.threads} thread{'s' if p.threads > 1 else ''}",
             line("memory is read at", f"{p.read / 1e9:.1f} GB/s")]
    for name, peak, size in (("float32", p.fma, 4), ("int8", p.dot4, 1)):
        found += [line(f"{name}: bytes a weight", f"{size}"),
                  line(f"{name}: weights a second from memory", f"{p.read / size / 1e9:.1f} G"),
                  line(f"{name}: operations a byte that keep it busy", f"{peak / p.read:.0f}", "peak / memory"),
                  line(f"{name}: operations a byte of {'x'.join(map(str, ONE_ROW))}",
                       f"{layer.operations / layer.nbytes(size, size):.2f}")]
    return found


def profile(plan: Plan, x: np.ndarray, seconds: float) -> list[tuple[Step, int, Timing]]:
    """Each step of a plan of one input on its own: its operations and its time."""
    values = {plan.inputs[0].value: x}
    functions, operations = {}, []
    for step in plan.steps:
        given = [values[i] for i in step.inputs]
        values[step.output] = y = step.run(given, len(x))
        functions[str(len(functions))] = partial(step.run, given, len(x))
        operations.append(2 * y.size * step.layer.k * step.layer.window.taps if isinstance(step, Product) else 0)
    return list(zip(plan.steps, operations, alternate(functions, seconds).values()))


def network(run: Run) -> list[str]:
    """Where the time of an int8 network goes, and how much the products could still gain (Amdahl 1967)."""
    tinyml.manual_seed(0)
    model = models.CifarCNN().eval()
    x = np.random.default_rng(0).standard_normal((BATCH, *IMAGE), np.float32)
    plan = model.to_int8(calibration=[x])
    with tinyml.no_grad():
        whole = alternate({"float32": ours.model(model.compile(x), x).call, "int8": ours.model(plan, x).call}, run.seconds)
        steps = profile(plan, x, run.seconds)
    peak, total = run.roofline.peaks[-1].dot4, sum(t.median for _, _, t in steps)
    found = [f"What is left of it in CifarCNN, batch {BATCH}",
             line("float32", f"{1e3 * whole['float32'].median:.2f} ms"),
             line("int8", f"{1e3 * whole['int8'].median:.2f} ms",
                  f"{whole['float32'].median / whole['int8'].median:.2f}x as fast"),
             f"  {'step':26}{'layer':>8}{'ms':>9}{'share':>8}{'Gop/s':>8}{'of dot4':>9}"]
    for step, n, t in steps:
        name = step.attrs.get("op", step.kind)
        found.append(f"  {name:26}{step.name:>8}{1e3 * t.median:9.3f}{t.median / total:8.1%}"
                     + (f"{n / t.median / 1e9:8.0f}{n / t.median / peak:9.0%}" if n else ""))
    products = sum(t.median for _, n, t in steps if n)
    least = total - products + sum(n for _, n, _ in steps) / peak
    return [*found, line("all steps", f"{1e3 * total:.2f} ms"),
            line("all that is no product", f"{1 - products / total:.1%}"),
            line("with every product at dot4's peak", f"{1e3 * least:.2f} ms",
                 f"{whole['float32'].median / least:.2f}x as fast as float32 is now")]


def explain(run: Run) -> str:
    """All of it."""
    return "\n\n".join("\n".join(part) for part in (lanes(), ports(run), weight_bytes(run), network(run)))
