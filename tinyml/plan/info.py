"""PlanInfo: the record of how a plan was made, in memory and as JSON in a file."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ..errors import FileError
from ..options import REPAIRS, ROUNDINGS


class _Record:
    """Base of records whose fields can also be read as items: info["rounding"] is info.rounding."""

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


@dataclass(frozen=True)
class CalibrationInfo(_Record):
    """Where the ranges of a plan come from.

    Attributes:
        observer: the name of the observer; "qat" for ranges found in training.
        samples: how many samples it saw.
        digest: SHA-256 of the shapes and bytes of the inputs, in their order.
    """

    observer: str
    samples: int
    digest: str


@dataclass(frozen=True)
class FrontierPoint(_Record):
    """A mixture of precisions that the search for `max_drop` saw.

    Attributes:
        float_layers: the layers that stay float in it.
        metric: its accuracy or agreement as a share, or its loss.
        drop: how much worse it is than the float model, see `Score.drop`.
        file_bytes: the bytes of its file.
        latency_ms: the milliseconds that the first batch of the data takes.
    """

    float_layers: list[str]
    metric: float
    drop: float
    file_bytes: int
    latency_ms: float


@dataclass(frozen=True)
class PlanInfo(_Record):
    """How a plan was made. Every field is always there; the fields of steps that were not taken are empty.

    Attributes:
        inputs: the names of the arguments of the model's forward; empty if they are not known.
        outputs: the keys of the dict that forward returned, if it returned one.
        single_output: whether forward returned a Tensor, rather than a tuple or a dict of them.
        rounding: "single" or "double", equation (5).
        calibration: where the ranges come from; None for a float plan, and where they were given.
        floats: why ops stayed float, by the name that `Plan.islands` has for them.
        repairs: the repairs that changed something.
        frontier: the mixtures of precisions that `to_int8(max_drop=...)` saw, except those that were both worse and
            larger than another.
    """

    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    single_output: bool = True
    rounding: str = ROUNDINGS[0]
    calibration: CalibrationInfo | None = None
    floats: dict[str, str] = field(default_factory=dict)
    repairs: list[str] = field(default_factory=list)
    frontier: list[FrontierPoint] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The fields that are not empty, in types that JSON has."""
        return {name: value for name, value in asdict(self).items() if value not in (None, [], {})}

    @classmethod
    def from_json(cls, found: Any, inputs: int, outputs: int) -> PlanInfo:
        """The PlanInfo that `to_json` gave as `found`, of a plan with so many inputs and outputs.

        Raises:
            FileError: a field has a value that it cannot have in any plan.
        """
        if not isinstance(found, dict):
            raise FileError(f"expected how the plan was made, got {found!r:.80}")
        given = {f.name: found[f.name] for f in fields(cls) if f.name in found}
        calibration, frontier = given.pop("calibration", {}), given.pop("frontier", [])
        info = cls(**given)
        if type(info.single_output) is not bool or (info.single_output and outputs != 1):
            raise FileError(f"expected whether the plan has a single output, got {info.single_output!r:.80} and {outputs} "
                            "outputs")
        for key, number in (("inputs", inputs), ("outputs", outputs)):
            names = info[key]
            if not _are_texts(names) or len(names) not in (0, number) or len(set(names)) != len(names):
                raise FileError(f"expected {key} to be a name for each of {number}, or none, got {names!r:.200}")
        if info.rounding not in ROUNDINGS or not (calibration == {} or _is_calibration(calibration)):
            raise FileError(f"expected how the plan was rounded and calibrated, got {found!r:.200}")
        if not isinstance(info.floats, dict) or not _are_texts(list(info.floats.values())):
            raise FileError(f"expected why layers stayed float, a text for each, got {info.floats!r:.200}")
        if not isinstance(info.repairs, list) or not all(name in REPAIRS for name in info.repairs):
            raise FileError(f"expected repairs among {', '.join(REPAIRS)}, got {info.repairs!r:.200}")
        if not isinstance(frontier, list) or not all(map(_is_point, frontier)):
            raise FileError("expected points of accuracy, size and latency, each with "
                            f"{', '.join(f.name for f in fields(FrontierPoint))}, got {frontier!r:.200}")
        return replace(info, calibration=CalibrationInfo(**calibration) if calibration else None,
                       frontier=[FrontierPoint(**point) for point in frontier])


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(v, str) for v in values)


def _is_calibration(found: Any) -> bool:
    types = {"observer": str, "samples": int, "digest": str}
    return isinstance(found, dict) and {k: type(v) for k, v in found.items()} == types and 0 <= found["samples"] < 2**63


def _is_point(found: Any) -> bool:
    if not isinstance(found, dict) or found.keys() != {f.name for f in fields(FrontierPoint)}:
        return False
    numbers = [v for k, v in found.items() if k != "float_layers"]
    return (_are_texts(found["float_layers"]) and all(type(n) in (int, float) and math.isfinite(n) for n in numbers)
            and type(found["file_bytes"]) is int and found["file_bytes"] >= 0 and found["latency_ms"] >= 0)
