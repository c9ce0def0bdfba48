"""The memory of a training step: its peak and its page faults, in a separate process for each library.

    python -m benchmarks.memory FORM THREADS STEP      what that process runs; STEP is a Step as JSON
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
# a small step of each model, run before memory is counted: what a library loads on first use must not count
SMALL = {"CifarCNN": ((3, 10, 4), (3, 8, 8)), "TinyGPT": ((8, 8, 1, 2, 16), (8,))}
AFTER = 2       # the number of steps after the first, whose page faults count
RUNS = 5        # processes per form: PyTorch's peak differs by up to a third between processes, because of malloc
MB = 2**20


@dataclass(frozen=True)
class Usage:
    """The `peak` of resident bytes beyond those before the model was made; minor page `faults` per step after the first."""

    peak: float
    faults: float


@dataclass(frozen=True)
class Footprint:
    """One step as tinyml and its peers run it: the usage of each process by form, of which medians are taken."""

    work: str
    runs: dict[str, list[Usage]]

    @property
    def usage(self) -> dict[str, Usage]:
        """The medians, by form."""
        return {form: Usage(median(u.peak for u in runs), median(u.faults for u in runs))
                for form, runs in self.runs.items()}

    @property
    def ratios(self) -> dict[str, float]:
        """The peak of each peer divided by tinyml's; above 1 tinyml takes less."""
        usage = self.usage
        return {form: u.peak / usage["tinyml"].peak for form, u in usage.items() if form != "tinyml"}

    def figures(self) -> dict[str, Any]:
        """The figures for the JSON file."""
        return {**asdict(self), "usage": {form: asdict(u) for form, u in self.usage.items()}, "ratios": self.ratios}


def resident_bytes(field: str) -> int:
    """The bytes resident now ("VmRSS") or at most so far ("VmHWM"). getrusage's maximum would begin at the parent's."""
    if not STATUS.exists():
        raise OSError(f"memory: expected Linux, where {STATUS} says how much is resident; there is no such file")
    return 1024 * int(next(line for line in STATUS.read_text().splitlines() if line.startswith(field)).split()[1])


def measure(form: str, threads: int, step: Step) -> Usage:
    """Run the step once and then AFTER times more in this process, and return what it used."""
    tinyml.set_num_threads(threads)
    loaded = peers.load([] if form == "tinyml" else [form.split()[0]], threads)

    def prepare(step: Step) -> Prepared:
        return loaded[0].training(step)[form]() if loaded else steps.training(step)

    arguments, sample = SMALL[step.model]
    prepare(replace(step, arguments=arguments, sample=sample, batch=2, classes=8)).call()
    before = resident_bytes("VmRSS")
    prepared = prepare(step)
    prepared.call()
    warm = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(AFTER):
        prepared.call()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - warm
    return Usage(resident_bytes("VmHWM") - before, faults / AFTER)


def run_apart(module: str, *arguments: str) -> Any:
    """The JSON value that `python -m module` prints in a new process."""
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": paths})
    return json.loads(done.stdout)


def measure_apart(form: str, threads: int, step: Step) -> Usage:
    """`measure` in a new process."""
    return Usage(**run_apart("benchmarks.memory", form, str(threads), json.dumps(asdict(step))))


def rows(run: Run) -> list[Footprint]:
    """One row per model whose steps take more memory than its parameters."""
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
    """One line per row: for each form its peak, the extremes over the processes, the ratio to tinyml's, and its faults."""
    forms = list(dict.fromkeys(form for row in rows for form in row.runs))

    def cells(row: Footprint, form: str) -> list[str]:
        if form not in row.runs:
            return ["", ""]
        used, peaks = row.usage[form], [u.peak / MB for u in row.runs[form]]
        peak = f"{used.peak / MB:.1f} MB ({min(peaks):.1f} to {max(peaks):.1f})"
        return [peak + ("" if form == "tinyml" else f", {row.ratios[form]:.2f}x"), f"{used.faults:.0f}"]

    head = ["work", *(cell for form in forms for cell in (form, "faults per step"))]
    lines = [[row.work, *(cell for form in forms for cell in cells(row, form))] for row in rows]
    return layout([head, *lines], markdown=markdown)


if __name__ == "__main__":
    print(json.dumps(asdict(measure(sys.argv[1], int(sys.argv[2]), Step(**json.loads(sys.argv[3]))))))
