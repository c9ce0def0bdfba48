"""The numbers and choices that make a TinyGPT: GPT-2's architecture, the Llama family's, or a mix of their parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from ... import checks
from ...data.text import CharTokenizer
from ...errors import ShapeError


@dataclass(frozen=True)
class TinyGPTConfig:
    """Sizes and parts of a TinyGPT; the fields are the keywords of its constructor.

    Args:
        vocab_size: how many ids there are.
        context: how many positions at most.
        layers: blocks.
        heads: heads of queries in each block, of size dim / heads.
        dim: width of the residual stream.
        dropout: of the embedding and of what each half of a block adds.
        tied: the output projection is the token embedding (Press & Wolf 2017).
        kv_heads: heads of keys and values, each for heads / kv_heads heads of queries (Ainslie et al. 2023); None: heads.
        hidden: width of the feed-forward; None: 4 dim.
        norm: "layer" (Ba et al. 2016) or "rms" (Zhang & Sennrich 2019).
        eps: the number below the norm's root.
        positions: "learned", an embedding; "rotary" (Su et al. 2021), pairs half a head apart, as Llama has them; or
            "rotary_interleaved", pairs of neighbours.
        theta: base of the rotary angles.
        activation: "gelu"; "gelu_tanh", its tanh form, GPT-2's; or "swiglu": down(silu(gate(x)) * up(x)) (Shazeer 2020).
        bias: whether linear layers (but the output projection) and layer norms have one.
        characters: of a model of characters, that of each id, sorted as data.CharTokenizer has them; so a file of the
            model is all that is needed to write text with it. Computes nothing.

    Raises:
        ShapeError: a size, number or name out of range, heads that do not divide.
        DtypeError: a value of another kind.

    Example:
        >>> models.TinyGPTConfig(vocab_size=65, context=64, layers=4, heads=4, dim=128).parameters
        809856
    """

    vocab_size: int
    context: int
    layers: int
    heads: int
    dim: int
    dropout: float = 0.0
    tied: bool = True
    kv_heads: int = None        # type: ignore[assignment]   # None becomes a number in __post_init__
    hidden: int = None          # type: ignore[assignment]
    norm: str = "layer"
    eps: float = 1e-5
    positions: str = "learned"
    theta: float = 10000.0
    activation: str = "gelu"
    bias: bool = True
    characters: str | None = None

    CHOICES: ClassVar = {"norm": ("layer", "rms"), "positions": ("learned", "rotary", "rotary_interleaved"),
                         "activation": ("gelu", "gelu_tanh", "swiglu")}

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context", "layers", "heads", "dim", "kv_heads", "hidden"):
            if getattr(self, name) is None and name in ("kv_heads", "hidden"):
                object.__setattr__(self, name, self.heads if name == "kv_heads" else 4 * self.dim)
            self._set(name, checks.whole, 1)
        for name, choices in self.CHOICES.items():
            self._set(name, checks.choice, choices)
        self._set("dropout", checks.probability)
        self._set("eps", checks.number, 0)
        self._set("theta", checks.number, 1)
        self._set("tied", checks.flag)
        self._set("bias", checks.flag)
        if self.dim % self.heads or self.heads % self.kv_heads:
            raise ShapeError(f"TinyGPTConfig: heads must divide dim, and kv_heads divide heads, got dim {self.dim}, heads "
                             f"{self.heads}, kv_heads {self.kv_heads}")
        if self.rotary and self.dim // self.heads % 2:
            raise ShapeError(f"TinyGPTConfig: rotary positions need heads of an even size, got {self.dim // self.heads}")
        if self.characters is not None:
            check_characters(self.characters, self.vocab_size)

    def _set(self, name: str, check: Callable[..., Any], *limits: Any) -> None:
        """A field as `check` gives it: plain Python, which files can hold."""
        object.__setattr__(self, name, check("TinyGPTConfig", name, getattr(self, name), *limits))

    @property
    def rotary(self) -> bool:
        """Whether positions are rotary."""
        return self.positions != "learned"

    @property
    def parameters(self) -> int:
        """How many numbers a model of this config trains; a tied output projection counts once."""
        dim, kv, norm = self.dim, self.kv_heads * (self.dim // self.heads), 2 if self.norm == "layer" and self.bias else 1
        weights = dim * (dim + 2 * kv) + dim * dim + (3 if self.activation == "swiglu" else 2) * dim * self.hidden
        biases = (dim + 2 * kv) + dim + (2 if self.activation == "swiglu" else 1) * self.hidden + dim if self.bias else 0
        embeddings = (self.vocab_size * (1 if self.tied else 2) + (0 if self.rotary else self.context)) * dim
        return embeddings + self.layers * (weights + biases + 2 * norm * dim) + norm * dim

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain data: keywords of TinyGPT."""
        return asdict(self)


def check_characters(characters: str, vocab_size: int) -> None:
    """Raise ShapeError unless these are the characters of a CharTokenizer with so many ids."""
    if not isinstance(characters, str) or len(characters) != vocab_size or (
            CharTokenizer(characters).characters != characters):
        raise ShapeError(f"TinyGPTConfig: expected characters to be a text of vocab_size {vocab_size} characters, sorted, "
                         f"none of them twice, got {checks.described(characters)}")


# "char" is small enough to train on a CPU in minutes; gpt2 is Radford et al. 2019, smollm2-135m Allal et al. 2025.
PRESETS = {
    "char": TinyGPTConfig(vocab_size=65, context=64, layers=4, heads=4, dim=128),
    "gpt2": TinyGPTConfig(vocab_size=50257, context=1024, layers=12, heads=12, dim=768, activation="gelu_tanh"),
    "smollm2-135m": TinyGPTConfig(
        vocab_size=49152, context=8192, layers=30, heads=9, dim=576, kv_heads=3, hidden=1536, norm="rms",
        positions="rotary", theta=100000.0, activation="swiglu", bias=False)}
