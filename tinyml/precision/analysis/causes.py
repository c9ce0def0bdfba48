"""Causes: why a layer loses in int8. Each has a function of the layer's evidence, which returns a Cause or None.

Causes are compared in decibels: by how much the noise would fall without the cause.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .evidence import Layer, Seen

FINE = 30.0         # decibels of signal to noise from which a result needs no cause: sound layers have some 40
LEAST = 3.0         # decibels below which a cause is not named: 3 are half of the noise
SPREAD = 10.0       # decibels below which channels of different ranges are not named: in sound layers they cost some 5
TINY = np.finfo(np.float64).tiny


@dataclass
class Cause:
    """Why a layer loses.

    Attributes:
        name: what is wrong.
        decibels: by how much the noise would fall without it.
        evidence: the figures that show it.
        remedy: what to do about it.
    """

    name: str
    decibels: float
    evidence: str
    remedy: str


def costliest(found: Iterable[Cause | None]) -> Cause | None:
    """The cause that costs most decibels; None if there is none."""
    return max((c for c in found if c), key=lambda c: c.decibels, default=None)


def decibels(ratio: float) -> float:
    """10 log10 of a ratio of energies."""
    return float(10 * np.log10(max(ratio, TINY)))


def _find_clipping(seen: Seen, what: str) -> Cause | None:
    if seen.codec is None or seen.clipped <= seen.rounded:
        return None
    lo, hi = min(float(np.min(seen.lo)), 0), max(float(np.max(seen.hi)), 0)
    whole = seen.elements * ((hi - lo) / 255) ** 2 / 12
    scale, zero = float(seen.codec.scale), seen.codec.zero_point
    codes = f"[{(-128 - zero) * scale:.3g}, {(127 - zero) * scale:.3g}]"
    return Cause("clipped range", decibels((seen.clipped + seen.rounded) / max(whole, TINY)),
                 f"{what} reaches [{lo:.3g}, {hi:.3g}], its codes only {codes}",
                 'calibrate with data like these, or take observer="minmax" for it')


def find_clipped_range(layer: Layer) -> Cause | None:
    """A range of codes that the data exceed, so that clipping costs more than rounding."""
    return costliest([_find_clipping(layer.x, "the input"), _find_clipping(layer.y, "the result")])


def _find_few(seen: Seen, what: str) -> Cause | None:
    if seen.codec is None or seen.clipped > seen.rounded or not seen.histogram.counts.any():
        return None
    gain = decibels((seen.clipped + seen.rounded) / max(seen.least_noise(), TINY))
    levels = seen.levels(seen.codec)
    return Cause("few levels", gain, f"{levels} of 256 codes hold 99% of the non-zero values of {what}",
                 'take out what widened the range in calibration, or take observer="mse" or "percentile"')


def find_few_levels(layer: Layer) -> Cause | None:
    """A range of codes that is far wider than the data, which use only a few of the codes."""
    return costliest([_find_few(layer.x, "the input"), _find_few(layer.y, "the result")])


def _weight_gain(layer: Layer) -> tuple[float, int]:
    """What one scale for all rows of the weight costs against one scale per row, in decibels; and the largest row.

    The noise of each row is divided by the power of the row's own result.
    """
    rows, power = layer.rows(), layer.y.power
    alive = (rows > 0) & ~layer.y.constant
    if alive.sum() < 2:
        return 0.0, int(rows.argmax())
    signal = np.maximum(power, 1e-3 * np.median(power) + TINY)[alive]
    rows = rows[alive]
    return decibels((rows.max() ** 2 / signal).sum() / max((rows ** 2 / signal).sum(), TINY)), int(layer.rows().argmax())


def _input_gain(layer: Layer) -> tuple[float, str]:
    """What one scale for all channels of the input costs against one scale per channel, in decibels; and the evidence."""
    read, own = layer.columns(), layer.x.scales()
    alive = (read > 0) & ~layer.x.constant
    if alive.sum() < 2:
        return 0.0, ""
    avoidable = np.where(alive, (own[alive].max() ** 2 - own ** 2) * read, 0)
    gain = decibels(own[alive].max() ** 2 * read[alive].sum() / max((np.square(own) * read)[alive].sum(), TINY))
    at, codes = int(avoidable.argmax()), 255 * own / layer.x_scale
    if avoidable[at] > avoidable.sum() / 2:
        return gain, (f"channel {at} has {codes[at]:.1f} of 256 codes, the median channel {np.median(codes):.0f}; weights "
                      f"that read it are {_times(np.sqrt(read), at)} of all")
    at = int(np.where(alive, own, 0).argmax())
    return gain, f"the range of channel {at} is {_times(own, at)} of all, and the others matter as much"


def _times(values: np.ndarray, at: int) -> str:
    """How much larger one channel is than the others, in words."""
    others = np.median(values)
    return f"{values[at] / others:.0f} times the median" if others > 0 else "most others are 0"


def _find_folded_outlier(layer: Layer) -> int | None:
    """The output channel that is by far the largest because of batch norm, not because of the weight before it."""
    if layer.raw is None:
        return None
    rows, raw = layer.rows(), np.abs(layer.raw).reshape(len(layer.raw), -1).max(axis=1)
    at = int(rows.argmax())
    apart, before = rows[at] / max(np.median(rows), TINY), raw[at] / max(np.median(raw), TINY)
    return at if apart > 10 and apart > 3 * before else None


def find_outlier_channel(layer: Layer) -> Cause | None:
    """One scale for channels of very different ranges: rows of the weight, or input channels.

    The input channels are those of this layer, or of a layer that alone reads its result.
    """
    found = []
    if np.ptp(layer.scale) == 0:
        gain, at = _weight_gain(layer)
        if gain > SPREAD and not layer.y.constant[at] and _find_folded_outlier(layer) is None:
            found.append(Cause("outlier channel", gain, f"weights of output channel {at} are {_times(layer.rows(), at)} of "
                               "all, under one scale", 'per_channel=True, or repairs=["equalize"]'))
    for reader, where in [(layer, "of its input, "), *((r, f"for {r.name}, ") for r in layer.readers)]:
        gain, shown = _input_gain(reader)
        if gain > SPREAD:
            found.append(Cause("outlier channel", gain, where + shown, 'repairs=["equalize"] behind a convolution or '
                               'linear layer, ["migrate_scales"] behind a norm, or prepare_qat'))
    return costliest(found)


def find_batch_norm_fold(layer: Layer) -> Cause | None:
    """A channel whose weights batch norm made far larger than the others, because its running variance is close to 0."""
    at = _find_folded_outlier(layer)
    if at is None or layer.gain is None:
        return None
    shared = np.ptp(layer.scale) == 0
    gain = max([_weight_gain(layer)[0] if shared else 0.0, *(_input_gain(reader)[0] for reader in layer.readers)])
    if gain <= SPREAD:
        return None
    return Cause("batch-norm fold", gain, f"batch norm multiplies channel {at} by {layer.gain[at]:.3g}, "
                 f"{_times(np.abs(layer.gain), at)} of all", 'check its running variance (train on, or a larger eps); '
                 'repairs=["equalize"]')


def find_dead_channel(layer: Layer) -> Cause | None:
    """Channels whose result never changes. One with large weights takes precision from the others."""
    dead = np.flatnonzero(layer.y.constant)
    if not dead.size:
        return None
    rows, gain = layer.rows(), 0.0
    if np.ptp(layer.scale) == 0 and rows.argmax() in dead and len(dead) < len(rows):
        gain = 2 * decibels(rows.max() / max(np.delete(rows, dead).max(), TINY))
    return Cause("dead channel", gain, f"{dead.size} of {len(rows)} output channels never change, the first is {dead[0]}",
                 "set their weights to 0 and their constant into the bias, or leave them out of the network")


def blame_bias(share: float) -> Cause:
    """The cause "bias": most of the error is a shift of the channels' means.

    Args:
        share: the share of the squared error that the shift makes.
    """
    return Cause("bias", -decibels(max(1 - share, 1e-9)), f"{share:.0%} of the squared error is a shift of the channels' "
                 "means", 'repairs=["correct_bias"]')


def find_cause(layer: Layer, snr: float, bias_share: float) -> Cause | None:
    """The cause that costs most; None if there is none. Ranges and bias are examined only if the result is noisy.

    Args:
        layer: the evidence of the layer.
        snr: the signal-to-noise ratio of the layer's result if it alone is in int8, in decibels.
        bias_share: the share of that noise that is a shift of the channels' means.
    """
    found = [find_dead_channel(layer), find_batch_norm_fold(layer), find_outlier_channel(layer)]     # of equals the first
    if snr < FINE:
        others = (find_clipped_range(layer), find_few_levels(layer), blame_bias(bias_share))
        found += [c for c in others if c and c.decibels > LEAST]
    return costliest(found)
