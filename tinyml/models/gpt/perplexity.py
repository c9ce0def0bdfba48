"""How well a model predicts a text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from ... import checks
from ...data import TokenFile
from ...errors import ShapeError
from ...evaluation import run_models
from ...tensors import TensorLike
from .model import TinyGPT
from .next_token import next_token_loss

LARGEST = 2**24         # elements that the logits, or another activation, of the windows of one batch should not exceed


def perplexity(model: TinyGPT, ids: TensorLike | TokenFile, context: int | None = None, cache: str | None = None,
               progress: bool = False) -> dict[str, float]:
    """How well a model predicts a text, in evaluation mode, without gradients.

    The text is cut into windows of `context` ids, the last as long as what is left; each id but the first is predicted
    once, from those before it in its window.

    Args:
        model: a TinyGPT, float or int8.
        ids: (L,) integers, an array or a data.TokenFile.
        context: of the windows; None: the model's, which is the most.
        cache: "float32", "float16" or "int8": predict from keys and values that are stored so, as generation does; None: as
            they were computed, which is float32 without the copies.
        progress: whether to show a bar on stderr.

    Returns:
        "loss", the mean cross entropy over all ids that were predicted; "perplexity", exp(loss); "bits", loss / ln 2, what
        an id takes; "count", how many were predicted.

    Raises:
        DtypeError, ShapeError: no TinyGPT; ids that are no row of at least two integers, or outside the vocabulary; a
            context or cache out of range.

    Example:
        >>> model = models.TinyGPT(vocab_size=65, context=16, layers=1, heads=2, dim=32)
        >>> found = models.perplexity(model, np.arange(65))
        >>> found["count"], 60 < found["perplexity"] < 70
        (64, True)
    """
    checks.instance("perplexity", "model", model, TinyGPT)
    ids = ids if isinstance(ids, TokenFile) else checks.array("perplexity", "ids", ids, "iu")
    if ids.ndim != 1 or len(ids) < 2 or ids.dtype.kind not in "iu":
        raise ShapeError(f"perplexity: expected ids (L,), at least two integers, got {ids.dtype} of shape {ids.shape}")
    c = model.config
    longest = model.context if context is None else checks.whole("perplexity", "context", context, 1, model.context)
    progress = checks.flag("perplexity", "progress", progress)
    cached = 0 if cache is None else 2 * c.layers * c.kv_heads * (c.dim // c.heads) * -(-model.context // longest)
    rows = max(1, LARGEST // (longest * max(c.vocab_size, c.hidden, 3 * c.dim, cached)))
    count = len(ids) - 1
    batches = ((x if cache is None else (x, model.caches(len(x), cache)), y)
               for x, y in cut_windows(ids, c.vocab_size, longest, rows))
    total, done = 0.0, 0
    with run_models([model], batches) as run, tqdm(total=count, disable=not progress, unit=" ids", dynamic_ncols=True,
                                                   unit_scale=True) as bar:
        for _, (logits,), y in run:
            total, done = total + next_token_loss(logits.dequantize(), y).item() * y.size, done + y.size
            bar.update(y.size)
            bar.set_postfix(loss=f"{total / done:.4f}", refresh=False)
    loss = total / count
    return {"loss": loss, "perplexity": math.exp(loss) if loss < 700 else math.inf, "bits": loss / math.log(2),
            "count": count}


def cut_windows(ids: Any, vocab_size: int, longest: int, rows: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches (inputs, targets) of at most `rows` windows of `longest` ids, then the window of those left; each is (B, T).

    Raises:
        ShapeError: An id is none of the vocabulary's.
    """
    for start in range(0, len(ids) - 1, rows * longest):
        piece = np.asarray(ids[start : start + rows * longest + 1])
        if piece.min() < 0 or piece.max() >= vocab_size:
            raise ShapeError(f"perplexity: expected ids from 0 to {vocab_size - 1}, got {piece.min()} to {piece.max()}")
        piece = checks.ids(piece)
        inputs, targets = piece[:-1], piece[1:]
        whole = len(inputs) // longest * longest
        for begin, end in ((0, whole), (whole, len(inputs))):
            if begin < end:
                shape = -1, min(longest, end - begin)
                yield inputs[begin:end].reshape(shape), targets[begin:end].reshape(shape)
