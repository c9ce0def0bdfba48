"""max_drop: the fewest layers in float with which int8 loses no more than it may."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from tqdm import tqdm

from ...errors import QuantizationError
from ...nn.module import conversions
from ...plan.plan import Plan
from ...timing import median_times
from ..draft import Draft
from ..ranges.calibration import Calibration
from ..static import Options, planned
from .diagnosis import find_causes, take_samples
from .score import Score

LATENCY_SECONDS = 0.1       # a point of the frontier, on the data's first batch


@dataclass
class Point:
    """A mixture of precisions that was seen: `drop` as Score's, latency in milliseconds for the data's first batch."""

    float_layers: list[str]
    metric: float
    drop: float
    file_bytes: int
    latency_ms: float


def quantized_layers(draft: Draft) -> list[str]:
    """The layers that multiply in integers, in order."""
    lowered = draft.lowered()
    return list(dict.fromkeys(node.module for node, _ in lowered.layers(draft.graph) if node.module))


class _Search:
    """Plans of one draft with different layers in float, their scores, and what of them is worth showing."""

    def __init__(self, draft: Draft, found: Calibration, options: Options, score: Score, most: float, bar: tqdm):
        self.draft, self.found, self.options, self.score, self.most, self.bar = draft, found, options, score, most, bar
        self.seen: dict[frozenset[str], tuple[Plan, float]] = {}

    def drop(self, floats: Sequence[str]) -> float:
        """What is lost with these layers in float."""
        key = frozenset(floats)
        if key not in self.seen:
            plan = planned(self.draft, self.found, self.options, [*self.options.skip, *floats])
            self.seen[key] = plan, self.score.value(plan)
            self.bar.update()
        return self.score.drop(self.seen[key][1])

    def fits(self, floats: Sequence[str]) -> bool:
        return self.drop(floats) <= self.most

    def fewest(self, layers: list[str]) -> list[str]:
        """The float layers: none, else the best one, else the most sensitive ones together without those not needed."""
        if self.fits([]):
            return []
        order = sorted(layers, key=lambda name: self.drop([name]))
        if order and self.fits(order[:1]):
            return order[:1]
        for n in range(2, len(order) + 1):
            if self.fits(order[:n]):
                break
        else:
            raise QuantizationError(f"to_int8: even with all layers in float the {self.score.metric} drops by "
                                    f"{self.drop(order):.4g}, expected at most {self.most:g}")
        kept = order[:n]
        for name in kept[::-1]:
            fewer = [k for k in kept if k != name]
            kept = fewer if self.fits(fewer) else kept
        return kept

    def frontier(self, layers: list[str]) -> list[Point]:
        """The points than which none seen is both better and smaller, the smallest first."""
        inputs = self.score.inputs[0]
        sizes = {key: len(conversions["serialize"](plan)) for key, (plan, _) in self.seen.items()}
        best, least = [], np.inf
        for key in sorted(self.seen, key=lambda k: (sizes[k], self.drop(k))):
            if self.drop(key) < least:
                best.append(key)
                least = self.drop(key)
        times = median_times([lambda p=self.seen[k][0]: p(*inputs) for k in best], LATENCY_SECONDS * len(best))
        return [Point([n for n in layers if n in key], self.seen[key][1], self.drop(key), sizes[key], t)
                for key, t in zip(best, times)]


def within(draft: Draft, found: Calibration, options: Options, score: Score, most: float, progress: bool = False) -> Plan:
    """The plan with the fewest float layers found that loses at most `most` of the score.

    Each layer is tried in float by itself; if none of them is enough, they are added in the order of what each brought
    back, and those that turn out not to be needed are taken away again. plan.info["frontier"] has what was seen on the way,
    "floats" the causes of those that stay.

    Raises:
        QuantizationError: it cannot be met even in float.
    """
    layers = quantized_layers(draft)
    with tqdm(desc="searching for layers to keep in float", unit="plan", disable=not progress) as bar:
        search = _Search(draft, found, options, score, most, bar)
        floats = search.fewest(layers)
    plan, _ = search.seen[frozenset(floats)]
    plan.info["frontier"] = [asdict(point) for point in search.frontier(layers)]
    reasons = plan.info["floats"]
    for name, (_, _, cause) in find_causes(draft, take_samples(score), floats).items():
        why = f"{cause.name}: {cause.evidence}" if cause else "no known cause stands out"
        reasons.update((op, f"kept by max_drop={most:g}: {why}") for op in reasons if op.endswith(f" in {name}"))
    return plan
