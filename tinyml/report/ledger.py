"""report(model): the bytes and the time of each layer of a model, what int8 gains, and why where it gains nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from html import escape
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from .._kernels.dispatch import config, get_num_threads, set_num_threads
from ..atomic import write_whole
from ..batches import Arrays, read_inputs
from ..errors import DtypeError, ShapeError
from ..nn.mode import mode
from ..nn.module import Module, conversions
from ..plan.plan import Plan
from ..precision.training.model import QATModel
from . import histograms, page
from .eager import record_ops, time_module
from .figures import Figures, duration
from .layers import module_layers, plan_layers
from .pictures import check_picture, frontier_charts, layer_charts, sensitivity_charts, write_picture
from .planned import check_batch, make_batch, time_plan
from .sizes import in_memory, on_disk
from .timing import BUSY, Calls

# the fields of a diagnosis that a page shows
OVERALL = ("metric", "float_value", "int8_value")
DIAGNOSED = ("layer", "weight_snr", "activation_snr", "only_drop", "without_drop", "cause", "evidence", "remedy")

Times = list[Any]       # StepTimes of each step of a plan; of each op of a module (layer, Record, StepTimes)


class Report(Figures):
    """What `report` returns. It prints as a table; as_dict() is for JSON, to_html() writes a page, and plot() a picture.

    Attributes:
        model: the class of the model.
        kind: "static int8", "dynamic int8", "float16", "float32 plan" or "float32".
        batch: the number of samples that were timed at a time.
        isa: the instruction set that was used.
        threads: the number of threads that were used.
        layers: a Layer for each layer, in the order in which they run; what belongs to no layer comes last.
        header_bytes: the bytes of the file that are not in tensors.
        file_bytes: the bytes of the file: header_bytes and the disk_bytes of all layers.
        memory_bytes: the sum of the layers' memory_bytes.
        arena_bytes: the memory that the values of a batch share; None for a model that is not a plan.
        latency_ms: the time of one call in milliseconds; None if nothing was timed.
        timed: why nothing was timed, or other remarks on the times.
        calibration: how a plan was calibrated.
        frontier: the points of accuracy, size and latency that `to_int8(max_drop=...)` saw.
        diagnosis: the diagnosis that `report` was given, as a dict.

    Example:
        >>> from tinyml import models
        >>> found = models.MLP(4, 3, 2).to_int8().report(seconds=0)
        >>> found.kind, found.latency_ms, found.memory_bytes == sum(layer.memory_bytes for layer in found.layers)
        ('dynamic int8', None, True)
    """

    def to_html(self, path: Any) -> None:
        """Write the whole report as one HTML page that needs no other file.

        Args:
            path: the file to write.

        Raises:
            FileError: the file cannot be written; no part of it is left then.
        """
        write_whole(Path(path), page.render(self).encode())

    def _repr_html_(self) -> str:       # a page of its own, whose style is not the notebook's
        return f'<iframe srcdoc="{escape(page.render(self))}" width="100%" height="600"></iframe>'

    def plot(self, path: Any) -> None:
        """Draw the charts of the page into one SVG file: bytes and times of the layers, sensitivity, frontier.

        Args:
            path: the file to write, which ends in .svg.

        Raises:
            DtypeError: the path does not end in .svg.
            FileError: the file cannot be written.
        """
        path, rows = check_picture("plot", path, "; to_html() writes a page, .html"), [layer_charts(self)]
        if self.diagnosis is not None and self.diagnosis["layers"]:
            rows.append(sensitivity_charts(self.diagnosis))
        if self.frontier:
            rows.append(frontier_charts(self.frontier))
        write_picture(path, f"{self.model}, {self.kind}", rows)


def report(model: Module, data: Any = None, batch: int = 1, seconds: float = 1.0, diagnosis: Any = None) -> Report:
    """Measure the bytes and the time of each layer of a model, and what int8 gains.

    Bytes on disk are read from the header of the file that `save` would write; layers and header add up to it. Bytes in
    memory are those that the model keeps at the end of the report, without activations.

    A time is the least of many calls, in milliseconds for the batch; all calls take turns. Each step of a plan, or op of a
    module, is timed alone, with the operands that it has in the model, which are in the cache if they fit. The times are:
    - quantize: turning floats into codes and codes into floats, as steps of their own (`quantize_rows` in dynamic int8).
    - multiply, requantize: these are fused, so the product is timed a second time with half of its input channels (with
      twice as many if they are few). The line through both times, over the length of the sums, gives the time for sums of
      length 0: adding the bias, requantizing (scaling to float32 in dynamic int8), writing, and the call. That time is
      requantize, and the rest is multiply. If channels are in groups, or noise leaves no such line, multiply is the time of
      both, and the layer says why.
    - other: all steps without weights, in codes or float; in modules the time that Python spends around a product.
    - float32: the same step on floats of the same shapes, as a compiled float32 plan runs it, with the weights that the
      codes represent; for a module the same op with float32 weights. Float steps have the same time there, and steps
      between floats and codes have none. It is None if the float op of a step is not known.
    The sum over the layers differs from latency_ms, the time of a whole call, by the work between steps and by the cache.

    Args:
        model: a plan in int8 or float32, a module with weights in int8 or float16, or a float model.
        data: batches of inputs, as `to_int8(calibration=...)` takes them. The first batch is timed, repeated or cut to
            `batch` samples; all batches give the histograms of activations. A plan is timed without data too, on random
            numbers in its calibrated range. Other modules do not know the shape of their inputs and are not timed then.
        batch: the number of samples in the batch that is timed.
        seconds: how many seconds to time, for at least three rounds; 0 for no times. If something else keeps a core busy,
            all is timed once more on one thread: otherwise the times of some layers would include threads waiting for each
            other.
        diagnosis: what `precision.diagnose` returned, for the page and the picture.

    Returns:
        A Report, which prints as a table.

    Raises:
        ShapeError: a number is out of range, or data do not fit the model.
        DtypeError: the model is prepared for training, or `diagnosis` is not a Diagnosis.
        FileError: the model cannot be saved, so that it has no bytes on disk.

    Example:
        >>> import numpy as np
        >>> from tinyml import models
        >>> found = report(models.MLP(4, 3, 2).to_int8(calibration=np.ones((8, 4), np.float32)), seconds=0)
        >>> [(layer.name, layer.precision) for layer in found.layers if layer.weights]
        [('1', 'int8'), ('3', 'int8')]
        >>> found.file_bytes == found.header_bytes + sum(layer.disk_bytes for layer in found.layers)
        True
    """
    if isinstance(model, QATModel):
        raise DtypeError("report: a model prepared for quantization-aware training is not yet an int8 model; report its "
                         "to_int8()")
    if isinstance(batch, bool) or not isinstance(batch, (int, np.integer)) or batch < 1:
        raise ShapeError(f"report: expected a batch of at least 1, got {batch!r}")
    if not 0 <= seconds < math.inf:
        raise ShapeError(f"report: expected seconds of at least 0, got {seconds}")
    diagnosed = _diagnosis(diagnosis)
    batches = iter(()) if data is None else read_inputs("report", data, model)
    if isinstance(model, Plan):
        batches = (check_batch(model, inputs) for inputs in batches)
    first = next(batches, None)
    if data is not None and (first is None or any(not x.ndim or not len(x) for x in first)):
        raise ShapeError("report: expected data of at least one sample, got none")
    with mode(model, training=False):
        activations = {} if first is None else histograms.activations(model, chain([first], batches))
        with _explain_made_up(first):
            inputs = _inputs(model, int(batch), first)
            about = _overall(model, int(batch), seconds, inputs)
            took, calls = _times(model, seconds, inputs, about)
        tensors, header, total = on_disk(model)
        known = tensors, in_memory(model), took, calls, histograms.weights(model), activations
        layers = plan_layers(model, *known) if isinstance(model, Plan) else module_layers(model, *known)
    return Report(**about, layers=layers, header_bytes=header, file_bytes=total, diagnosis=diagnosed,
                  latency_ms=None if calls is None else calls.whole,
                  memory_bytes=sum(layer.memory_bytes for layer in layers))


def _inputs(model: Module, batch: int, first: Arrays | None) -> list[np.ndarray] | None:
    """The inputs of the batch that is timed, or None if nothing can be timed."""
    if isinstance(model, Plan):
        return make_batch(model, first, batch)
    return None if first is None else [np.take(x, np.arange(batch) % len(x), 0) for x in first]


@contextmanager
def _explain_made_up(first: Arrays | None) -> Iterator[None]:
    """If the plan fails on random numbers in the place of data, raise an error that says so."""
    try:
        with np.errstate(all="ignore"):
            yield
    except ShapeError as error:
        if first is not None:
            raise
        raise ShapeError(f"report: the plan fails on made-up inputs; give it some as data=...: {error}") from error


def _overall(model: Module, batch: int, seconds: float, inputs: list[np.ndarray] | None) -> dict[str, Any]:
    """The figures of the whole model, without bytes and times."""
    settings = config()
    about = {"model": type(model).__name__, "kind": kind_of(model), "batch": batch, "isa": settings["isa"],
             "threads": settings["threads"]}
    if isinstance(model, Plan) and inputs is not None:
        info = asdict(model.info)
        about |= {"calibration": info["calibration"], "frontier": info["frontier"],
                  "arena_bytes": model.layout(inputs, batch).memory.nbytes}
    if not seconds:
        about["timed"] = "no times: none were asked for (seconds=0)"
    elif inputs is None:
        about["timed"] = ("no times: only a plan knows the shape of its inputs; for other models give some, as "
                          "report(data=...)")
    return about


def kind_of(model: Module) -> str:
    """ "static int8", "dynamic int8", "float16", "float32 plan" or "float32"."""
    if isinstance(model, Plan):
        floats = {"island", "float_product"}
        return "float32 plan" if {s.kind for s in model.steps} <= floats else "static int8"
    kinds = {getattr(m, name).dtype for m in model.modules() for name in m.stored_weights}
    found = [name for name, dtype in (("dynamic int8", np.int8), ("float16", np.float16)) if np.dtype(dtype) in kinds]
    return " + ".join(found) or "float32"


def _times(model: Module, seconds: float, inputs: list[np.ndarray] | None,
           about: dict[str, Any]) -> tuple[Times, Calls] | tuple[None, None]:
    """The times of each step or op (for a module with layer and op), and those of calls; None if nothing is timed.

    If threads wait for cores that another program keeps busy, all is timed once more on one thread, and `about` says so.
    """
    if not seconds or inputs is None:
        return None, None

    def measure() -> tuple[Times, Calls]:
        if isinstance(model, Plan):
            return time_plan(model, inputs, about["batch"], seconds)
        ran = record_ops(model, inputs)
        took, calls = time_module(model, ran, inputs, seconds)
        return [(layer, r, t) for (layer, r), t in zip(ran, took)], calls

    took, calls = measure()
    threads = get_num_threads()
    if threads == 1 or calls.team < BUSY:
        return took, calls
    about["timed"] = (f"something else kept a core busy: {threads} threads took {duration(calls.team)} to begin and end "
                      "together, so all was timed on one thread")
    about["threads"] = 1
    set_num_threads(1)
    try:
        return measure()
    finally:
        set_num_threads(threads)


def _diagnosis(diagnosis: Any) -> dict[str, Any] | None:
    """The fields of a diagnosis that a report shows. Numbers that are not finite are None, as JSON has no such numbers."""
    if diagnosis is None:
        return None

    def plain(value: Any) -> Any:
        value = value.item() if isinstance(value, np.generic) else value
        return None if isinstance(value, float) and not math.isfinite(value) else value

    try:
        return {**{name: plain(getattr(diagnosis, name)) for name in OVERALL},
                "layers": [{name: plain(getattr(layer, name)) for name in DIAGNOSED} for layer in diagnosis.layers]}
    except AttributeError as error:
        raise DtypeError(f"report: expected what precision.diagnose returns as diagnosis, got a "
                         f"{type(diagnosis).__name__}: {error}") from error


conversions.update(report=report)
