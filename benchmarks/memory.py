"""How much memory a step of training takes: its peak and its page faults, in a process of its own for each library.

    python -m benchmarks.memory FORM THREADS STEP      what such a process runs; STEP is a Step as JSON
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import tinyml
from tinyml.tables import layout

from . import peers, steps
from .prepared import Prepared
from .steps import Step
from .timing import Run

STATUS = Path("/proc/self/status")
# of each model a small step, run before memory is counted: what a library loads on first use is not the step's
SMALL = {"CifarCNN": ((3, 10, 4), (3, 8, 8)), "TinyGPT": ((8, 8, 1, 2, 16), (8,))}
AFTER = 2       # steps after the first, whose page faults count
RUNS = 5        # processes a form: what malloc makes of PyTorch's tensors differs by a third from one to the next
MB = 2**20


@dataclass(frozen=True)
class Usage:
    """`peak` bytes resident beyond those from before the model was made; `faults` minor page faults a step, warmed up."""

    peak: float
    faults: float


@dataclass(frozen=True)
class Footprint:
    """One step as tinyml and its peers run it: by form what each process used, of which the median is taken."""

    work: str
    runs: dict[str, list[Usage]]

    @property
    def usage(self) -> dict[str, Usage]:
        """By form, the medians."""
        return {form: Usage(median(u.peak for u in runs), median(u.faults for u in runs))
                for form, runs in self.runs.items()}

    @property
    def ratios(self) -> dict[str, float]:
        """The others' peak / tinyml's: above 1 where tinyml takes less."""
        usage = self.usage
        return {form: u.peak / usage["tinyml"].peak for form, u in usage.items() if form != "tinyml"}

    def figures(self) -> dict[str, Any]:
        """For the JSON file."""
        return {**asdict(self), "usage": {form: asdict(u) for form, u in self.usage.items()}, "ratios": self.ratios}


def resident(field: str) -> int:
    """Bytes of "VmRSS" (now) or "VmHWM" (at most so far). getrusage's maximum would be the parent's at first."""
    if not STATUS.exists():
        raise OSError(f"memory: expected Linux, which tells what is resident in {STATUS}; there is no such file")
    return 1024 * int(next(line for line in STATUS.read_text().splitlines() if line.startswith(field)).split()[1])


def measure(form: str, threads: int, step: Step) -> Usage:
    """Run the step once and AFTER times more in this process."""
    tinyml.set_num_threads(threads)
    loaded = peers.load([] if form == "tinyml" else [form.split()[0]], threads)

    def prepare(step: Step) -> Prepared:
        return loaded[0].training(step)[form]() if loaded else steps.training(step)

    arguments, sample = SMALL[step.model]
    prepare(replace(step, arguments=arguments, sample=sample, batch=2, classes=8)).call()
    before = resident("VmRSS")
    prepared = prepare(step)
    prepared.call()
    warm = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(AFTER):
        prepared.call()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - warm
    return Usage(resident("VmHWM") - before, faults / AFTER)


def run_apart(module: str, *arguments: str) -> Any:
    """What `python -m module` prints in a fresh process, which is JSON."""
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": paths})
    return json.loads(done.stdout)


def measure_apart(form: str, threads: int, step: Step) -> Usage:
    """`measure` in a fresh process."""
    return Usage(**run_apart("benchmarks.memory", form, str(threads), json.dumps(asdict(step))))


def rows(run: Run) -> list[Footprint]:
    """A row a model whose steps take more than their parameters."""
    found = []
    for name, step in steps.STEPS.items():
        if step.model not in SMALL:
            continue
        forms = ["tinyml", *(form for peer in run.peers for form in peer.training(step))]
        usage = {form: [measure_apart(form, run.threads, step) for _ in range(RUNS)] for form in forms}
        found.append(Footprint(name, usage))
        print(f"{name}: {found[-1].usage['tinyml'].peak / MB:.1f} MB", file=sys.stderr, flush=True)
    return found


def table(rows: list[Footprint], markdown: bool = False) -> str:
    """One line a row: each form's peak, its extremes over the processes and how many times tinyml's it is, its faults."""
    forms = list(dict.fromkeys(form for row in rows for form in row.runs))

    def cells(row: Footprint, form: str) -> list[str]:
        if form not in row.runs:
            return ["", ""]
        used, peaks = row.usage[form], [u.peak / MB for u in row.runs[form]]
        peak = f"{used.peak / MB:.1f} MB ({min(peaks):.1f} to {max(peaks):.1f})"
        return [peak + ("" if form == "tinyml" else f", {row.ratios[form]:.2f}x"), f"{used.faults:.0f}"]

    head = ["work", *(cell for form in forms for cell in (form, "faults a step"))]
    lines = [[row.work, *(cell for form in forms for cell in cells(row, form))] for row in rows]
    return layout([head, *lines], markdown=markdown)


if __name__ == "__main__":
    print(json.dumps(asdict(measure(sys.argv[1], int(sys.argv[2]), Step(**json.loads(sys.argv[3]))))))
