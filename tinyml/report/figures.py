"""The contents of a report: figures of each layer and of the whole model, as a table and as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from ..tables import layout
from ..tensors import OPS

NO_LAYER, HEADER = "(no layer)", "(header and description)"
# the columns of the table: what each is called, and the name of its figures in `cells`
COLUMNS = {"layer": "layer", "ops": "computes", "precision": "precision", "memory": "memory", "disk": "disk",
           "observer": "observer", "range": "range", "margin": "margin", "quantize": "quantize", "multiply": "multiply",
           "requantize": "requantize", "other": "other", "total": "time", "float32": "float32", "faster": "as fast"}
PARTS = ("quantize", "multiply", "requantize", "other")      # of the time of a layer
WORDS = ("layer", "ops", "precision", "observer")       # those whose cells are words
EDGES = ("quantize", "dequantize")      # what a plan does between floats and codes


@dataclass
class Histogram:
    """Counts of values in bins of equal width from lo to hi.

    Attributes:
        of: the name of the values that were counted, such as "weight".
        what: "codes", or the dtype of floats.
        lo: where the first bin begins.
        hi: where the last bin ends.
        counts: the number of values in each bin.

    Example:
        >>> from tinyml import models
        >>> found = models.MLP(4, 3, 2).to_int8().report(seconds=0).layers[0].weights[0]
        >>> found.of, found.what, sum(found.counts)
        ('weight', 'codes', 12)
    """

    of: str
    what: str
    lo: float
    hi: float
    counts: list[int]


@dataclass
class Layer:
    """The figures of one layer, or of the steps that belong to no layer.

    Times are in milliseconds for the batch, as `report` describes them; all are None if nothing was timed.

    Attributes:
        name: the name of the layer.
        ops: the ops that it computes.
        precision: "int8", "float16", "float32", or "int8 + float32" if it has both.
        memory_bytes: the bytes that it keeps in memory.
        disk_bytes: the bytes of all its arrays in the file.
        tensors: the bytes of each of its arrays in the file, by name.
        observer: how the range of its result was found; None if it has none.
        lo: the low end of that range; of the last result if it has several.
        hi: the high end of that range.
        margin: the share of int32 that its accumulators leave free whatever the input, 0 to 1, for the channel that leaves
            least.
        quantize_ms: the time to turn floats into codes and codes into floats.
        multiply_ms: the time of its integer product.
        requantize_ms: the time to requantize the sums; None if it is part of multiply_ms.
        other_ms: the time of all else.
        total_ms: the sum of these times.
        float32_ms: the time of the same steps in float32; None if that is not known.
        speedup: float32_ms / total_ms of a layer that has int8.
        together: why requantize_ms is part of multiply_ms; "" if it is not.
        floats: why some of its steps stayed float.
        notes: why there is no gain, and other remarks.
        weights: a Histogram of each of its weights.
        activations: a Histogram of each of its results.

    Example:
        >>> from tinyml import models
        >>> layer = models.MLP(4, 3, 2).to_int8().report(seconds=0).layers[0]
        >>> layer.name, layer.precision, layer.tensors
        ('1', 'int8', {'bias': 12, 'weight.scale': 12, 'weight': 12})
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


SLOWER = 1.05       # times as long; on a shared machine, less may be noise


@dataclass
class Figures:
    """The figures of a whole model, with the attributes that `Report` describes. It prints as a table."""

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
        """The sum of the layers' times."""
        return None if self.latency_ms is None else sum(layer.total_ms or 0.0 for layer in self.layers)

    @property
    def float32_ms(self) -> float | None:
        """The time of the same layers in float32; None unless it is known for each of them."""
        times = [layer.float32_ms for layer in self.layers if layer.float32_ms is not None]
        return None if self.latency_ms is None or len(times) < len(self.layers) else sum(times)

    def as_dict(self) -> dict[str, Any]:
        """All figures, for JSON."""
        return {**asdict(self), "sum_ms": self.sum_ms, "float32_ms": self.float32_ms}

    @property
    def unit(self) -> str:
        """The unit of the table's times: "µs", or "ms" if the batch takes more than 100 of these."""
        return "ms" if (self.latency_ms or 0) > 100 else "µs"

    def rows(self) -> list[dict[str, str]]:
        """The table's cells by the keys of COLUMNS: one row per layer, then the header of the file, then the total."""
        header = {"layer": HEADER, "disk": f"{self.header_bytes:,}"}
        total = {"layer": "total", "memory": f"{self.memory_bytes:,}", "disk": f"{self.file_bytes:,}",
                 "total": in_unit(self.sum_ms, self.unit), "float32": in_unit(self.float32_ms, self.unit)}
        if self.float32_ms and self.sum_ms and "int8" in self.kind:
            total["faster"] = f"{self.float32_ms / self.sum_ms:.2f}x"
        for part in PARTS:
            if self.latency_ms is not None:
                total[part] = in_unit(sum(getattr(layer, f"{part}_ms") or 0.0 for layer in self.layers), self.unit)
        rows = [*(cells(layer, self.unit) for layer in self.layers), header, total]
        return [{**dict.fromkeys(COLUMNS, ""), **row} for row in rows]

    def notes(self) -> list[str]:
        """The notes on the layers, each with the names of all layers that it is about."""
        said: dict[str, list[str]] = {}
        for layer in self.layers:
            for note in [*layer.floats, *layer.notes]:
                said.setdefault(note, []).append(layer.name)
        return [f"{', '.join(names)}: {note}" for note, names in said.items()]

    def summary(self) -> list[str]:
        """The lines above the table: the model, its bytes, its calibration and its time."""
        lines = [f"{self.model}, {self.kind}: {self.file_bytes:,} bytes on disk, {self.memory_bytes:,} in memory"]
        if self.arena_bytes is not None:
            lines[0] += f", and {self.arena_bytes:,} that the values of a batch of {self.batch} share"
        if self.calibration is not None:
            lines.append(f"ranges by observer {self.calibration['observer']} from {self.calibration['samples']:,} samples")
        if self.latency_ms is not None:
            lines.append(f"a batch of {self.batch} takes {duration(self.latency_ms)} on {self.threads} "
                         f"thread{'s' if self.threads > 1 else ''} ({self.isa}); below are {self.unit} for the batch, "
                         "each step timed alone")
        if "int8" in self.kind and self.float32_ms and self.sum_ms and self.sum_ms > SLOWER * self.float32_ms:
            lines.append(f"it is slower than float32, whose layers take {duration(self.float32_ms)} where these take "
                         f"{duration(self.sum_ms)}; the layers below say why, and skip=[...] leaves them in float")
        return [*lines, self.timed] if self.timed else lines

    def __str__(self) -> str:
        rows = [COLUMNS, *self.rows()]
        used = [key for key in COLUMNS if any(row[key] for row in rows[1:])]
        table = layout([[row[key] for key in used] for row in rows], [i for i, key in enumerate(used) if key in WORDS],
                       rules=(1, len(rows) - 1))
        return "\n".join([*self.summary(), "", table, *(["", *self.notes()] if self.notes() else [])])


def cells(layer: Layer, unit: str) -> dict[str, str]:
    """A layer's row of the table; a cell is empty if it is unknown or does not apply."""
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
    """A layer's ops in a few words: the first one, and how many more there are."""
    names = list(dict.fromkeys(layer.ops))
    ops = [name for name in names if name not in EDGES and not (name in OPS and OPS[name].passes_on)] or names
    return "" if not ops else ops[0] if len(ops) == 1 else f"{ops[0]} + {len(ops) - 1}"


def in_unit(ms: float | None, unit: str) -> str:
    """Milliseconds as a cell of the table, in "ms" or "µs", with three digits and at most two decimals; "" for None."""
    if ms is None:
        return ""
    value = ms if unit == "ms" else 1e3 * ms
    return "0" if not value else f"{value:,.{min(max(2 - math.floor(math.log10(value)), 0), 2)}f}"


def duration(ms: float) -> str:
    """Milliseconds with their unit, in a sentence."""
    unit = "ms" if ms >= 1 else "µs"
    return f"{in_unit(ms, unit)} {unit}"
