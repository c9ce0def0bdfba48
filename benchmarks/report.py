"""The output of a run: the head, the table, and the JSON file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any, Protocol

from tinyml.tables import layout

from . import machine
from .roofline import Peaks
from .timing import Row, Run


class HasFigures(Protocol):
    """A row of any table."""

    def figures(self) -> dict[str, Any]:
        """The figures of the row, for JSON."""


def duration(seconds: float) -> str:
    """Seconds as text with three digits, in ms or µs."""
    value, unit = (1e3 * seconds, "ms") if seconds >= 1e-4 else (1e6 * seconds, "µs")
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f} {unit}"


def _cells(row: Row, forms: list[str], notes: bool) -> list[str]:
    own = row.times["tinyml"]
    cells = [row.work, row.precision, duration(own.median), f"±{50 * (own.high - own.low) / own.median:.1f}%",
             f"{row.rate / 1e9:.1f}" if row.operations else "",
             f"{row.nbytes / own.median / 1e9:.1f}" if row.bound == "read" and not row.operations else "",
             f"{row.share:.0%} of {row.bound}" if row.share is not None else ""]
    cells += [f"{duration(row.times[f].median)}, {row.ratios[f]:.2f}x" if f in row.times else "" for f in forms]
    cells.append("" if row.faster_peer is None else f"{row.faster_peer:.2f}x")
    return cells + [row.note] * notes


def table(rows: list[Row], markdown: bool = False) -> str:
    """One line per row. First tinyml's median, half the distance of its quartiles, its rate (in bytes if no operations are
    counted) and its share of the peak; then the other medians with their ratios to tinyml's, and the ratio of the fastest
    peer."""
    forms = list(dict.fromkeys(f for row in rows for f in row.times if f != "tinyml"))
    notes = any(row.note for row in rows)
    head = ["work", "precision", "tinyml", "spread", "Gop/s", "GB/s", "share", *forms, "fastest peer"] + ["note"] * notes
    lines = [head, *(_cells(row, forms, notes) for row in rows)]
    kept = [i for i in range(len(head)) if i < 4 or any(line[i] for line in lines[1:])]
    left = [i for i, k in enumerate(kept) if k < 2 or head[k] == "note"]
    return layout([[line[i] for i in kept] for line in lines], left, markdown=markdown)


def _peaks(p: Peaks) -> str:
    return (f"{p.threads} thread{'s' if p.threads > 1 else ''}: fma {p.fma / 1e9:.0f} Gop/s (float32), dot4 "
            f"{p.dot4 / 1e9:.0f} Gop/s (int8), read {p.read / 1e9:.1f} GB/s (memory), clock {p.clock / 1e9:.2f} GHz")


def head(run: Run, command: str, markdown: bool = False) -> str:
    """The lines above the table: the command, the machine, the versions, and the peaks."""
    m = machine.describe()
    lines = [f"`{command}`" if markdown else command, f"{m['cpu']}, {m['cores']} cores; tinyml's kernels: {m['isa']}",
             ", ".join(f"{name} {v}" for name, v in all_versions(run).items()),
             *(f"peaks, {_peaks(p)}" for p in run.roofline.peaks)]
    return "\n".join(f"- {line}" if markdown else line for line in lines)


def all_versions(run: Run) -> dict[str, str]:
    """The versions of tinyml and of the peers."""
    found = machine.versions()
    for peer in run.peers:
        found |= peer.versions()
    return found


def write(path: str, run: Run, command: str, subject: str, rows: Sequence[HasFigures]) -> None:
    """Write all figures as JSON; times are in seconds, rates per second."""
    found = {"subject": subject, "command": command, "date": date.today().isoformat(), "threads": run.threads,
             "machine": machine.describe(), "versions": all_versions(run),
             "peaks": [asdict(p) for p in run.roofline.peaks], "rows": [row.figures() for row in rows]}
    Path(path).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
