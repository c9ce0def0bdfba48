"""What a report says: figures of each layer and of the whole, as a table and as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from ..tensor import OPS

NO_LAYER, HEADER = "(no layer)", "(header and description)"
# the columns of the table: what each is called, and the name of its figures in `cells`
COLUMNS = {"layer": "layer", "ops": "computes", "precision": "precision", "memory": "memory", "disk": "disk",
           "observer": "observer", "range": "range", "margin": "margin", "quantize": "quantize", "multiply": "multiply",
           "requantize": "requantize", "other": "other", "total": "time", "float32": "float32", "faster": "as fast"}
WORDS = ("layer", "ops", "precision", "observer")       # those whose cells are words
EDGES = ("quantize", "dequantize")      # what a plan does between floats and codes


@dataclass
class Histogram:
    """Counts of `bins` of one width from lo to hi; `what` is "codes" or the dtype of floats, `of` what was counted."""

    of: str
    what: str
    lo: float
    hi: float
    counts: list[int]


@dataclass
class Layer:
    """One layer, or what belongs to none.

    ops: what it computes. precision: "int8", "float16", "float32", or "int8 + float32" for what has both. tensors: bytes
    on disk of each array in the file; disk_bytes their sum, memory_bytes what it keeps in memory.
    observer, lo, hi: how the range of its result was found, and the range; of the last result where it has several.
    margin: the share of int32 that its accumulators leave free whatever the input, 0 to 1, of the channel that leaves
    least.
    quantize_ms, multiply_ms, requantize_ms, other_ms, total_ms: see `report`; requantize_ms is None where it is in
    multiply_ms, for the reason `together`. float32_ms: what the same takes in float32, None where it cannot be said;
    speedup the ratio, of layers that have int8. All are None if nothing was timed.
    floats: why what it computes in float stayed float. notes: why there is no gain, and what else to know.
    """

    name: str
    ops: list[str]
    precision: str
    memory_bytes: int
    disk_bytes: int
    tensors: dict[str, int]
    observer: str | None = None
    lo: float | None = None
    hi: float | None = None
    margin: float | None = None
    quantize_ms: float | None = None
    multiply_ms: float | None = None
    requantize_ms: float | None = None
    other_ms: float | None = None
    total_ms: float | None = None
    float32_ms: float | None = None
    speedup: float | None = None
    together: str = ""
    floats: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    weights: list[Histogram] = field(default_factory=list)
    activations: list[Histogram] = field(default_factory=list)


SLOWER = 1.05       # times as long: what is less is no difference on a machine that is shared


@dataclass
class Figures:
    """All that a report says; prints as a table.

    layers: all of them in the order they run, what belongs to none last. header_bytes: what of the file is no tensor.
    file_bytes: the file's, the sum of header_bytes and the layers' disk_bytes. memory_bytes: the sum of theirs.
    arena_bytes: the memory that the values of a batch share, of a plan. latency_ms: one call with `batch` samples, None if
    nothing was timed; timed says how many or why not. frontier: points of accuracy, size and latency that
    `to_int8(max_drop=...)` saw. diagnosis: what `report` was given, as a dict.
    """

    model: str
    kind: str
    batch: int
    isa: str
    threads: int
    layers: list[Layer]
    header_bytes: int
    file_bytes: int
    memory_bytes: int
    arena_bytes: int | None = None
    latency_ms: float | None = None
    timed: str = ""
    calibration: dict[str, Any] | None = None
    frontier: list[dict[str, Any]] = field(default_factory=list)
    diagnosis: dict[str, Any] | None = None

    @property
    def sum_ms(self) -> float | None:
        """The layers' times."""
        return None if self.latency_ms is None else sum(layer.total_ms for layer in self.layers)

    @property
    def float32_ms(self) -> float | None:
        """The same layers in float32, None unless it is known of each."""
        times = [layer.float32_ms for layer in self.layers]
        return None if self.latency_ms is None or None in times else sum(times)

    def as_dict(self) -> dict[str, Any]:
        """All figures, for JSON."""
        return {**asdict(self), "sum_ms": self.sum_ms, "float32_ms": self.float32_ms}

    @property
    def unit(self) -> str:
        """What the table's times are in: "µs", or "ms" of a batch that takes more than 100 of these."""
        return "ms" if (self.latency_ms or 0) > 100 else "µs"

    def rows(self) -> list[dict[str, str]]:
        """The table's cells by the keys of COLUMNS: a row a layer, then the header of the file, then the total."""
        header = {"layer": HEADER, "disk": f"{self.header_bytes:,}"}
        total = {"layer": "total", "memory": f"{self.memory_bytes:,}", "disk": f"{self.file_bytes:,}",
                 "total": in_unit(self.sum_ms, self.unit), "float32": in_unit(self.float32_ms, self.unit)}
        if self.float32_ms and self.sum_ms and "int8" in self.kind:
            total["faster"] = f"{self.float32_ms / self.sum_ms:.2f}x"
        for part in ("quantize", "multiply", "requantize", "other"):
            if self.latency_ms is not None:
                total[part] = in_unit(sum(getattr(layer, f"{part}_ms") or 0.0 for layer in self.layers), self.unit)
        rows = [*(cells(layer, self.unit) for layer in self.layers), header, total]
        return [{**dict.fromkeys(COLUMNS, ""), **row} for row in rows]

    def notes(self) -> list[str]:
        """What there is to say of layers in words; what is said of several, once."""
        said: dict[str, list[str]] = {}
        for layer in self.layers:
            for note in [*layer.floats, *layer.notes]:
                said.setdefault(note, []).append(layer.name)
        return [f"{', '.join(names)}: {note}" for note, names in said.items()]

    def summary(self) -> list[str]:
        """What the table is about, in a few lines."""
        lines = [f"{self.model}, {self.kind}: {self.file_bytes:,} bytes on disk, {self.memory_bytes:,} in memory"]
        if self.arena_bytes is not None:
            lines[0] += f", and {self.arena_bytes:,} that the values of a batch of {self.batch} share"
        if self.calibration is not None:
            lines.append(f"ranges by observer {self.calibration['observer']} from {self.calibration['samples']:,} samples")
        if self.latency_ms is not None:
            lines.append(f"a batch of {self.batch} takes {duration(self.latency_ms)} on {self.threads} "
                         f"thread{'s' if self.threads > 1 else ''} ({self.isa}); below are {self.unit} for the batch, "
                         "each step alone")
        if "int8" in self.kind and self.float32_ms and self.sum_ms > SLOWER * self.float32_ms:
            lines.append(f"it is slower than float32, whose layers take {duration(self.float32_ms)} where these take "
                         f"{duration(self.sum_ms)}; why is said of the layers below, and skip=[...] leaves them float")
        return [*lines, self.timed] if self.timed else lines

    def __str__(self) -> str:
        rows = [COLUMNS, *self.rows()]
        used = [key for key in COLUMNS if any(row[key] for row in rows[1:])]
        widths = {key: max(len(row[key]) for row in rows) for key in used}
        lines = ["  ".join(row[key].ljust(widths[key]) if key in WORDS else row[key].rjust(widths[key])
                           for key in used).rstrip() for row in rows]
        lines.insert(1, "-" * max(map(len, lines)))
        lines.insert(-1, lines[1])
        return "\n".join([*self.summary(), "", *lines, *(["", *self.notes()] if self.notes() else [])])


def cells(layer: Layer, unit: str) -> dict[str, str]:
    """A layer's row: what is unknown or does not apply is empty."""
    together = layer.requantize_ms is None and bool(layer.multiply_ms) and "int8" in layer.precision
    return {
        "layer": layer.name, "ops": computes(layer), "precision": layer.precision, "memory": f"{layer.memory_bytes:,}",
        "disk": f"{layer.disk_bytes:,}", "observer": layer.observer or "",
        "range": "" if layer.lo is None else f"{layer.lo:.4g} to {layer.hi:.4g}",
        "margin": "" if layer.margin is None else f"{math.floor(1e4 * layer.margin) / 100:.2f}%",
        **{part: in_unit(getattr(layer, f"{part}_ms") or None, unit) for part in ("quantize", "multiply", "other")},
        "requantize": "together" if together else in_unit(layer.requantize_ms or None, unit),
        "total": in_unit(layer.total_ms, unit), "float32": in_unit(layer.float32_ms, unit),
        "faster": "" if layer.speedup is None else f"{layer.speedup:.2f}x"}


def computes(layer: Layer) -> str:
    """What a layer computes, in a few words: its op, how many more, nothing where it only passes numbers on."""
    names = list(dict.fromkeys(layer.ops))
    ops = [name for name in names if name not in EDGES and not (name in OPS and OPS[name].passes_on)] or names
    return "" if not ops else ops[0] if len(ops) == 1 else f"{ops[0]} + {len(ops) - 1}"


def in_unit(ms: float | None, unit: str) -> str:
    """Milliseconds as a figure of the table, in "ms" or "µs": three digits, two decimals at most; nothing for None."""
    if ms is None:
        return ""
    value = ms if unit == "ms" else 1e3 * ms
    return "0" if not value else f"{value:,.{min(max(2 - math.floor(math.log10(value)), 0), 2)}f}"


def duration(ms: float) -> str:
    """Milliseconds with their unit, in a sentence."""
    unit = "ms" if ms >= 1 else "µs"
    return f"{in_unit(ms, unit)} {unit}"
