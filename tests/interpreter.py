"""A second implementation of static int8, from the equations of the design alone: it reads a saved plan with
safetensors and runs it in NumPy with int64, sharing no code with tinyml.

Codes are the signed q of the equations, layouts are plain NCHW, weights are what the file holds. What the file states
twice (scales and zero points at both ends of a value, multipliers beside scales) is checked to agree.
"""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import product as pairs
from math import frexp
from typing import Any

import numpy as np
from safetensors import safe_open

INT32 = 2**31 - 1


def multiplier(real: Fraction) -> tuple[int, int]:
    """m and s of a real multiplier; equation (5). Python's round() of a Fraction ties to even, as rint."""
    s = min(31 - frexp(float(real))[1], 55)
    m = round(real * 2**s)
    return (2**30, s - 1) if m == 2**31 else (m, s)


def exact(value: Any) -> Fraction:
    """A scale as the float32 it is, then without rounding."""
    return Fraction(float(np.float32(value)))


def quotient(a: Fraction, b: Fraction) -> Fraction:
    """a / b rounded to float64 once, like M in equation (5)."""
    return Fraction(float(a) / float(b))


def clamp(v: np.ndarray, lo: int = -128, hi: int = 127) -> np.ndarray:
    return np.minimum(np.maximum(v, lo), hi)


def single(acc: np.ndarray, m: int, s: int, zero: int) -> np.ndarray:
    """Equation (5): one rounding, halves up."""
    return zero + ((acc * m + (1 << (s - 1))) >> s)


def double(acc: np.ndarray, m: int, s: int, zero: int) -> np.ndarray:
    """Equation (5), gemmlowp: SaturatingRoundingDoublingHighMul, RoundingDivideByPOT, the zero point, saturating."""
    acc = clamp(acc << max(31 - s, 0), -INT32 - 1, INT32)
    v = acc * m + np.where(acc * m >= 0, 1 << 30, 1 - (1 << 30))
    v = np.sign(v) * (np.abs(v) // 2**31)
    exponent = max(s - 31, 0)
    mask = (1 << exponent) - 1
    v = (v >> exponent) + ((v & mask) > (mask >> 1) + (v < 0))
    return clamp(v + zero, -INT32 - 1, INT32)


class Plan:
    """A static plan read from `path`; `run(x)` gives its float outputs."""

    def __init__(self, path: Any):
        with safe_open(str(path), "np") as file:
            self.about = json.loads(file.metadata()["tinyml"])
            self.arrays = {name: file.get_tensor(name) for name in file.keys()}      # noqa: SIM118
        assert self.about["kind"] == "plan" and self.about["version"] == 2
        self.steps = self.about["steps"]
        self.scales, self.zeros = self._ends()

    def own(self, at: int) -> dict[str, np.ndarray]:
        """The arrays of a step."""
        return {name.split(".", 1)[1]: a for name, a in self.arrays.items() if name.startswith(f"{at}.")}

    def _ends(self) -> tuple[dict[int, float], dict[int, int]]:
        """Scale and zero point of every value in codes, from the steps that make or read it, which must agree."""
        scales: dict[int, float] = {}
        zeros: dict[int, int] = {}

        def note(into: dict, value: int, found: Any) -> None:
            assert into.setdefault(value, found) == found, f"value {value} is {into[value]} and {found}"

        for _ in self.steps:    # scale and zero point pass in both directions through ops that keep the codes
            for s in self.steps:
                a, y, xs = s["attrs"], s["output"], s["inputs"]
                if s["kind"] in ("quantize", "dequantize"):
                    value = y if s["kind"] == "quantize" else xs[0]
                    note(scales, value, a["scale"])
                    note(zeros, value, a["zero_point"])
                elif s["kind"] == "product":
                    note(scales, xs[0], a["scale_in"])
                    note(scales, y, a["scale_out"])
                elif s["kind"] == "codes":
                    for into in (scales, zeros):
                        for one, other in ((xs[0], y), (y, xs[0])):
                            if one in into:
                                note(into, other, into[one])
                elif s["kind"] == "embedding":
                    note(scales, y, a["scale"])
                elif "scales" in a:
                    at = [i for i, where in enumerate(a.get("operands", ("value", "value"))) if where == "value"]
                    for x, i in zip(xs, at):    # of two operands, the last may be a constant
                        note(scales, x, a["scales"][i])
                        note(zeros, x, a["zero_points"][i])
                    note(scales, y, a["scale_out"])
                if "zero_in" in a:
                    note(zeros, xs[0], a["zero_in"])
                if "zero_point" in a and s["kind"] not in ("quantize", "dequantize"):
                    note(zeros, y, a["zero_point"])
        return scales, zeros

    def run(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """The outputs, float32."""
        values: dict[int, np.ndarray] = {}
        for slot, x in zip(self.about["inputs"], inputs, strict=True):
            values[slot["value"]] = x
        for at, s in enumerate(self.steps):
            xs = [values[i] for i in s["inputs"]]
            values[s["output"]] = getattr(self, s["kind"])(s, self.own(at), xs, len(inputs[0]))
        return [values[o["value"]] for o in self.about["outputs"]]

    # -- the steps: description, arrays, operands, batch size ---------------------------------------------------------
    def quantize(self, s, own, xs, batch):
        """Equation (7)."""
        a, (x,) = s["attrs"], xs
        assert x.dtype == np.float32
        with np.errstate(over="ignore"):
            q = np.rint(x / np.float32(a["scale"])).astype(np.float64) + a["zero_point"]
        return clamp(q).astype(np.int64)

    def dequantize(self, s, own, xs, batch):
        """Equation (1)."""
        a, (q,) = s["attrs"], xs
        return np.float32(a["scale"]) * (q - a["zero_point"]).astype(np.float32)

    def product(self, s, own, xs, batch):
        """Equations (4) and (5)."""
        a, (x,), weight = s["attrs"], xs, own["weight"]
        assert weight.dtype == np.int8 and own["bias"].dtype == np.int32 and own["scale"].dtype == np.float32
        assert np.abs(weight.astype(int)).max() <= 127 and -128 <= a["lo"] <= a["hi"] <= 127
        shape = x.shape
        if not a["spatial"]:
            x, weight = x.reshape(-1, shape[-1], 1, 1), weight[:, :, None, None]
        acc = convolve(x - a["zero_in"], weight.astype(np.int64), a)
        acc += own["bias"].astype(np.int64)[:, None, None]
        reach = max(abs(-128 - a["zero_in"]), abs(127 - a["zero_in"]))
        sums = np.abs(weight.astype(np.int64)).sum(axis=(1, 2, 3)) * reach + np.abs(own["bias"].astype(np.int64))
        assert a["bound"] == sums.max() <= INT32, "the bound in the file is not that of equation (4)"
        assert np.abs(acc).max(initial=0) <= INT32, "the certificate of equation (4) does not hold"
        y = np.empty_like(acc)
        for n, scale in enumerate(own["scale"]):
            m, shift = multiplier(quotient(exact(a["scale_in"]) * exact(scale), exact(a["scale_out"])))
            requantize = {"single": single, "double": double}[a["rounding"]]
            y[:, n] = clamp(requantize(acc[:, n], m, shift, a["zero_point"]), a["lo"], a["hi"])
        return y if a["spatial"] else y.reshape(*shape[:-1], len(weight))

    def add(self, s, own, xs, batch):
        """Equation (8): one shift for both, that of the larger multiplier."""
        a, operands = s["attrs"], with_constant(xs, own)
        reals = [quotient(exact(v), exact(a["scale_out"])) for v in a["scales"]]
        shift = multiplier(max(reals))[1]
        assert [abs(sign) for sign in a["signs"]] == [1, 1]
        total = sum(sign * round(real * 2**shift) * (q - zero) for sign, real, q, zero in
                    zip(a["signs"], reals, operands, a["zero_points"], strict=True))
        return clamp(single(total, 1, shift, a["zero_point"]), a["lo"], a["hi"])

    def mul(self, s, own, xs, batch):
        """Equation (8)."""
        a, (x, y), (zx, zy) = s["attrs"], with_constant(xs, own), s["attrs"]["zero_points"]
        m, shift = multiplier(quotient(exact(a["scales"][0]) * exact(a["scales"][1]), exact(a["scale_out"])))
        return clamp(single((x - zx) * (y - zy), m, shift, a["zero_point"]), a["lo"], a["hi"])

    def concat(self, s, own, xs, batch):
        """Equation (8) for each operand that comes in other codes; constants are in the result's."""
        a, given, parts = s["attrs"], iter(xs), []
        for where, scale, zero in zip(a["operands"], a["scales"], a["zero_points"], strict=True):
            if where == "value":
                parts.append(rescaled(next(given), scale, zero, a))
            else:
                assert own[where].dtype == np.int8 and (scale, zero) == (a["scale_out"], a["zero_point"])
                parts.append(own[where].astype(np.int64))
        return np.concatenate(parts, a["axis"])

    def pad(self, s, own, xs, batch):
        """Equation (8), then the code of the constant around it."""
        a = s["attrs"]
        x = rescaled(xs[0], a["scales"][0], a["zero_points"][0], a)
        y = np.full([n + sum(w) for n, w in zip(x.shape, a["widths"], strict=True)], a["code"])
        y[tuple(slice(before, before + n) for n, (before, _) in zip(x.shape, a["widths"], strict=True))] = x
        return y

    def embedding(self, s, own, xs, batch):
        """Rows of codes."""
        assert own["table"].dtype == np.int8
        return own["table"].astype(np.int64)[xs[0]]

    def avg_pool(self, s, own, xs, batch):
        """Equation (8): one multiplier for each count."""
        a, (x,) = s["attrs"], xs
        rows, columns, m, shift = (own[k] for k in ("rows", "columns", "multiplier", "shift"))
        y = np.empty((*x.shape[:2], len(rows), len(columns)), np.int64)
        scales = self.scales.get(s["inputs"][0]), self.scales.get(s["output"])
        for i, j in pairs(range(len(rows)), range(len(columns))):
            window = x[:, :, slice(*rows[i]), slice(*columns[j])]
            if None not in scales:
                real = Fraction(int(m[i, j]), 2 ** int(shift[i, j]))
                count = round(exact(scales[0]) / exact(scales[1]) / real)
                assert count >= window[0, 0].size >= 1
                assert multiplier(quotient(exact(scales[0]), exact(scales[1]) * count)) == (m[i, j], shift[i, j])
            total = (window - a["zero_in"]).sum(axis=(2, 3))
            y[:, :, i, j] = clamp(single(total, int(m[i, j]), int(shift[i, j]), a["zero_point"]))
        return y

    def mean(self, s, own, xs, batch):
        """Average pooling of the whole image into one pixel."""
        (y0, y1), = own["rows"]
        (x0, x1), = own["columns"]
        assert (y0, x0, y1, x1) == (0, 0, *xs[0].shape[2:])
        return self.avg_pool(s, own, xs, batch)[:, :, 0, 0]

    def table(self, s, own, xs, batch):
        """A function of one code; the file's table is of unsigned codes, q + 128."""
        assert own["table"].shape == (256,) and own["table"].dtype == np.uint8
        return own["table"][xs[0] + 128].astype(np.int64) - 128

    def codes(self, s, own, xs, batch):
        """Ops that keep scale and zero point."""
        (x,), attrs = xs, {k: plain(v, batch) for k, v in s["attrs"]["attrs"].items()}
        match s["attrs"]["op"]:
            case "reshape":
                return x.reshape(attrs["shape"])
            case "permute":
                return x.transpose(attrs["order"])
            case "getitem":
                return x[attrs["index"]]
            case "broadcast_to":
                return x + np.zeros(attrs["shape"], np.int64)
            case "max_pool2d":
                return max_pool(x, **attrs)
        raise AssertionError(f"the interpreter has no {s['attrs']['op']} on codes")


def with_constant(xs: list, own: dict) -> list[np.ndarray]:
    """Two operands, the second of which may be a constant of the file."""
    if "constant" not in own:
        return xs
    assert own["constant"].dtype == np.int8
    return [*xs, own["constant"].astype(np.int64)]


def rescaled(q: np.ndarray, scale: float, zero: int, a: dict) -> np.ndarray:
    """Codes of one scale and zero point in those of a result; equation (8) for one operand."""
    m, shift = multiplier(quotient(exact(scale), exact(a["scale_out"])))
    return clamp(single(q - zero, m, shift, a["zero_point"]))


def plain(value: Any, batch: int) -> Any:
    """An attribute of the file as a Python value."""
    if isinstance(value, list):
        return [plain(v, batch) for v in value]
    if isinstance(value, dict):
        (kind, inner), = value.items()
        return {"tuple": lambda: tuple(plain(v, batch) for v in inner), "batch": lambda: inner * batch,
                "slice": lambda: slice(*(plain(v, batch) for v in inner)), "ellipsis": lambda: Ellipsis}[kind]()
    return value


def convolve(x: np.ndarray, weight: np.ndarray, a: dict) -> np.ndarray:
    """Sums of x (B, C, H, W), its zero points at 0, by weight (N, C/groups, kh, kw): int64, zeros around the image."""
    (sh, sw), (ph, pw), (dh, dw), groups = a["stride"], a["padding"], a["dilation"], a["groups"]
    total, k, kh, kw = weight.shape
    assert [kh, kw] == a["size"] and x.shape[1] == k * groups
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    oh = (padded.shape[2] - dh * (kh - 1) - 1) // sh + 1
    ow = (padded.shape[3] - dw * (kw - 1) - 1) // sw + 1
    acc = np.zeros((len(x), total, oh, ow), np.int64)
    n = total // groups
    for g, i, j in pairs(range(groups), range(kh), range(kw)):
        seen = padded[:, g * k : (g + 1) * k, i * dh :, j * dw :][:, :, : oh * sh : sh, : ow * sw : sw][:, :, :oh, :ow]
        acc[:, g * n : (g + 1) * n] += np.einsum("bkyx,nk->bnyx", seen, weight[g * n : (g + 1) * n, :, i, j])
    return acc


def max_pool(x: np.ndarray, size: tuple, stride: tuple, padding: tuple) -> np.ndarray:
    """The largest code of each window; padding is below all codes."""
    (kh, kw), (sh, sw), (ph, pw) = size, stride, padding
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=-129)
    oh, ow = (padded.shape[2] - kh) // sh + 1, (padded.shape[3] - kw) // sw + 1
    y = np.full((*x.shape[:2], oh, ow), -129)
    for i, j in pairs(range(kh), range(kw)):
        y = np.maximum(y, padded[:, :, i : i + oh * sh : sh, j : j + ow * sw : sw][:, :, :oh, :ow])
    return y


def run(path: Any, *inputs: np.ndarray) -> list[np.ndarray]:
    """The outputs of the plan saved at `path`."""
    return Plan(path).run(*inputs)
