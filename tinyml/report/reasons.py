"""The reasons why a layer gains nothing from int8, derived from its times and bytes."""

from __future__ import annotations

from .figures import Layer, duration
from .timing import CROWD, Calls, StepTimes

GAIN = 1.1              # times as fast as float32; less is called no gain, because on a shared machine it may be noise
SMALLER = 0.5           # share of the bytes of float32; a layer with more is called hardly smaller


def no_gain(layer: Layer, parts: list[StepTimes], times: Calls) -> str | None:
    """Why the integer steps (or ops) of a layer take as long as in float32; None if they gain, or cannot be compared.

    The first of these that holds is the reason: the layer would gain without quantizing; half of its time is spent in
    Python around products; half of its time is spent on calling kernels; requantizing takes longer than multiplying; many
    more rows would hardly take longer; copying its bytes takes half of its time.
    """
    ms, float32, requantize = layer.total_ms, layer.float32_ms, layer.requantize_ms
    quantize, multiply, other = layer.quantize_ms, layer.multiply_ms, layer.other_ms
    if layer.speedup is None or layer.speedup >= GAIN or ms is None or float32 is None:
        return None
    if quantize is None or multiply is None or other is None:
        return None
    products = [p for p in parts if p.terms]
    kernels = [p for p in parts if p.terms or p.copy is not None]
    calls, copy = len(kernels) * times.least, sum(p.copy or 0.0 for p in parts)
    crowds = [(p, p.crowd) for p in products if p.crowd is not None]
    if quantize and ms > quantize and float32 / (ms - quantize) >= GAIN:
        why = (f"quantizing and dequantizing at its edges take {duration(quantize)} of its {duration(ms)}; what is between "
               f"is {float32 / (ms - quantize):.2f}x as fast as float32")
    elif len(products) == len(parts) and other >= ms / 2:
        why = f"what Python does around the product takes {duration(other)} of its {duration(ms)}"
    elif calls >= ms / 2:
        why = f"it is too small: calling {_count(len(kernels), 'kernel')} takes {duration(calls)} of its {duration(ms)}"
    elif products and requantize is not None and requantize > multiply:
        why = (f"requantizing takes {duration(requantize)}, multiplying {duration(multiply)}: its sums have only "
               f"{products[0].terms:,} products")
    elif crowds and crowds[0][1] < CROWD / 2 * (crowds[0][0].multiply + crowds[0][0].requantize):
        p, crowd = crowds[0]
        why = (f"only {_count(p.rows, 'row')} read{'s' if p.rows == 1 else ''} its weights: {CROWD} times as many would "
               f"take {crowd / (p.multiply + p.requantize):.1f} times as long")
    elif copy >= ms / 2:
        why = f"it is bound by memory: copying as many bytes takes {duration(copy)} of its {duration(ms)}"
    else:
        named = {"quantizing": quantize, "multiplying": multiply, "requantizing": requantize or 0.0, "all else": other}
        shares = [f"{duration(t)} {what}" for what, t in named.items() if t]
        why = f"float32 takes {duration(float32)}, {layer.precision} {duration(ms)}"
        why += f": {', '.join(shares)}" if len(shares) > 1 else ""
    return f"no gain in time, because {why}"


def hardly_smaller(disk: dict[str, int], weights: int) -> str | None:
    """Why a layer with `weights` elements of int8 weights is hardly smaller in the file than in float32; None if it is."""
    total = sum(disk.values())
    if not weights or total <= SMALLER * 4 * weights:
        return None
    return (f"no gain in size, because scales, biases and the like take {total - weights:,} bytes beside {weights:,} of "
            f"codes: {total / (4 * weights):.0%} of the weights in float32")


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
