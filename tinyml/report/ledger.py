"""report(model): what each layer of a model costs, in bytes and in time, what it gains, and why not where it does not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from .._kernels.dispatch import config, get_num_threads, set_num_threads
from ..atomic import write_whole
from ..errors import DtypeError, ShapeError
from ..nn.mode import mode
from ..nn.module import Module, conversions
from ..plan.plan import Plan
from ..precision.ranges.calibration import inputs_of
from ..precision.training.model import QATModel
from . import histograms, page, plot
from .eager import module_times, records
from .figures import Figures, duration
from .layers import module_layers, plan_layers
from .planned import checked, plan_times, sized
from .sizes import in_memory, on_disk
from .timing import BUSY, Calls

# what a page reads of a diagnosis
OVERALL = ("metric", "float_value", "int8_value")
DIAGNOSED = ("layer", "weight_snr", "activation_snr", "only_drop", "without_drop", "cause", "evidence", "remedy")


class Report(Figures):
    """What `report` found: prints as a table; as_dict() for JSON; as a page; as a picture."""

    def to_html(self, path: Any) -> None:
        """Write all of it as one page that needs nothing else; the file is complete or not there.

        Raises:
            FileError: it cannot be written.
        """
        write_whole(Path(path), page.render(self).encode())

    def plot(self, path: Any) -> None:
        """Draw bytes and times of the layers, sensitivity and frontier, into a file of the kind that its ending says: .png,
        .svg or .pdf.

        Raises:
            TinymlError: matplotlib is missing, which the extra "plot" installs; FileError: it cannot be written.
        """
        write_whole(Path(path), plot.draw(self, Path(path).suffix.removeprefix(".") or "png"))


def report(model: Module, data: Any = None, batch: int = 1, seconds: float = 1.0, diagnosis: Any = None) -> Report:
    """A ledger of `model`: a plan in int8 or float32, a module with weights in int8 or float16, or a float model.

    Bytes on disk are read from the header of the file that `save` would write; layers and header add up to it. Bytes in
    memory are those that the model keeps at the end of the report, without activations.

    Times are the least of many calls, in milliseconds for the batch, all calls in turn: each step (of modules: each op)
    alone, with the operands that it has in the model, which lie in the cache if they fit. Measured are:
    - quantize: floats to codes and codes to floats, as steps of their own (dynamic int8: `quantize_rows`).
    - multiply, requantize: these are fused, so the product is measured a second time with half of its input channels (or
      twice, where there are few). The line through both times against the length of the sums gives what is left for none:
      bias, requantizing (dynamic int8: scaling to float32), writing, and the call. That is requantize, the rest multiply.
      Where channels are in groups, or noise leaves no such line, they are together, and the layer says why.
    - other: all steps without weights, in codes or float, and in modules what Python does around a product.
    - float32: the same step on floats of the same shapes, as a compiled float32 plan runs it, with the weights that the
      codes stand for; of a module the same op with float32 weights. Float steps count as they are, steps between floats and
      codes as nothing. None where a step does not tell its float op.
    The layers' sum differs from latency_ms, which is measured of a whole call, by what is around the steps and the cache.

    Args:
        data: batches of inputs, as `to_int8(calibration=...)` takes them. The first is what is timed, repeated or cut to
            `batch` samples; all give the histograms of activations. A plan is timed without data too, on numbers of the
            range it was calibrated for; other modules do not know the shape of their inputs and are not.
        batch: samples in the batch that is timed.
        seconds: how long to time, at least three rounds; 0 for no times. On a machine whose cores are busy once more, on
            one thread: threads that wait would be in the times of some layers.
        diagnosis: what `precision.diagnose` returned, for the page.

    Raises:
        ShapeError: a batch below 1, seconds below 0, data that do not fit the model; DtypeError: a model prepared for
        training; FileError: a model that cannot be saved has no bytes on disk.
    """
    if isinstance(model, QATModel):
        raise DtypeError("report: a model prepared for quantization-aware training is no int8 model yet; report its "
                         "to_int8()")
    if isinstance(batch, bool) or not isinstance(batch, (int, np.integer)) or batch < 1:
        raise ShapeError(f"report: expected a batch of at least 1, got {batch!r}")
    if not 0 <= seconds < math.inf:
        raise ShapeError(f"report: expected seconds of at least 0, got {seconds}")
    diagnosed = _diagnosis(diagnosis)
    batches = iter(()) if data is None else inputs_of("report", data, model)
    if isinstance(model, Plan):
        batches = (checked(model, inputs) for inputs in batches)
    first = next(batches, None)
    if data is not None and (first is None or any(not x.ndim or not len(x) for x in first)):
        raise ShapeError("report: expected data of at least one sample, got none")
    with mode(model, training=False):
        activations = {} if first is None else histograms.activations(model, chain([first], batches))
        with _made_up(first):
            inputs = _inputs(model, int(batch), first)
            about = _overall(model, int(batch), seconds, inputs)
            took, calls = _times(model, seconds, inputs, about)
        tensors, header, total = on_disk(model)
        make = plan_layers if isinstance(model, Plan) else module_layers
        layers = make(model, tensors, in_memory(model), took, calls, histograms.weights(model), activations)
    return Report(**about, layers=layers, header_bytes=header, file_bytes=total, diagnosis=diagnosed,
                  latency_ms=None if calls is None else calls.whole,
                  memory_bytes=sum(layer.memory_bytes for layer in layers))


def _inputs(model: Module, batch: int, first: tuple | None) -> list[np.ndarray] | None:
    """What is timed, None where nothing can be."""
    if isinstance(model, Plan):
        return sized(model, first, batch)
    return None if first is None else [np.take(x, np.arange(batch) % len(x), 0) for x in first]


@contextmanager
def _made_up(first: tuple | None) -> Iterator[None]:
    """Where no data were given, and the numbers made up instead break the plan, say that."""
    try:
        with np.errstate(all="ignore"):
            yield
    except ShapeError as error:
        if first is not None:
            raise
        raise ShapeError(f"report: the plan fails on made-up inputs; give it some as data=...: {error}") from error


def _overall(model: Module, batch: int, seconds: float, inputs: list[np.ndarray] | None) -> dict[str, Any]:
    """What a report says of a model as a whole, bytes and times apart."""
    settings = config()
    about = {"model": type(model).__name__, "kind": kind_of(model), "batch": batch, "isa": settings["isa"],
             "threads": settings["threads"]}
    if isinstance(model, Plan):
        info = asdict(model.info)
        about |= {"calibration": info["calibration"], "frontier": info["frontier"],
                  "arena_bytes": model.layout(inputs, batch).memory.nbytes}
    if not seconds:
        about["timed"] = "no times: none were asked for (seconds=0)"
    elif inputs is None:
        about["timed"] = ("no times: a model that is no plan does not know the shape of its inputs; give it some, as "
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
           about: dict[str, Any]) -> tuple[list, Calls] | tuple[None, None]:
    """What each step or op took (modules: with its layer), and what calls took; None where nothing is timed.

    Where threads wait for cores that something else keeps busy, all is timed once more on one thread, which `about` notes.
    """
    if not seconds or inputs is None:
        return None, None

    def measure() -> tuple[list, Calls]:
        if isinstance(model, Plan):
            return plan_times(model, inputs, about["batch"], seconds)
        ran = records(model, inputs)
        took, calls = module_times(model, ran, inputs, seconds)
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
    """The fields of a diagnosis that a report shows; what is not finite is None, which JSON has no number for."""
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
