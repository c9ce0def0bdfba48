"""PyTorch's mixed precision as it is on a machine without CUDA: off. Scripts that ask for it train in float32."""

from __future__ import annotations

from contextlib import ContextDecorator
from typing import Any

from . import checks
from .errors import DtypeError

__all__ = ["GradScaler", "autocast"]


class autocast(ContextDecorator):
    """Within it, or in a function that it decorates, ops compute as they do anywhere else: in the dtypes of their operands.

    Args:
        device_type: taken for PyTorch's sake, as is `cache_enabled`.
        dtype: None or float32; a shorter float only where it is not `enabled`.
        enabled: whether PyTorch would compute in `dtype`.
        cache_enabled: see `device_type`.

    Raises:
        DtypeError: it is enabled for float16 or bfloat16.

    Example:
        >>> with tinyml.autocast("cpu"):
        ...     Tensor([1.0]) + 1
        tensor([2.])
    """

    def __init__(self, device_type: str = "cpu", dtype: Any = None, enabled: bool = True,
                 cache_enabled: bool | None = None):
        name = getattr(dtype, "__name__", str(dtype))
        if checks.flag("autocast", "enabled", enabled) and name.endswith("float16"):    # bfloat16 too
            raise DtypeError(f"autocast: ops compute in the dtypes of their operands, not in {name}; train in float32 with "
                             "enabled=False, and store the trained weights in float16 with model.to_fp16()")

    def __enter__(self) -> autocast:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class GradScaler:
    """What scales no loss, as float32 has no need of it: PyTorch's GradScaler where there is no CUDA.

    Args:
        device: taken for PyTorch's sake, as are all others.
        init_scale: see `device`.
        growth_factor: see `device`.
        backoff_factor: see `device`.
        growth_interval: see `device`.
        enabled: see `device`.

    Example:
        >>> scaler = tinyml.GradScaler()
        >>> scaler.scale(Tensor(3.0)), scaler.get_scale(), scaler.is_enabled()
        (tensor(3.), 1.0, False)
    """

    def __init__(self, device: str = "cuda", init_scale: float = 65536.0, growth_factor: float = 2.0,
                 backoff_factor: float = 0.5, growth_interval: int = 2000, enabled: bool = True):
        pass

    def scale(self, outputs: Any) -> Any:
        """The loss itself.

        Args:
            outputs: a Tensor, or several.

        Returns:
            `outputs`.
        """
        return outputs

    def unscale_(self, optimizer: Any) -> None:
        """Leave the gradients as they are.

        Args:
            optimizer: whose gradients they are.
        """

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """Let the optimizer take its step.

        Args:
            optimizer: any that has a `step`.
            args: for `step`.
            kwargs: for `step`.

        Returns:
            What `step` returns.
        """
        return optimizer.step(*args, **kwargs)

    def update(self, new_scale: Any = None) -> None:
        """Leave the scale at 1.

        Args:
            new_scale: taken for PyTorch's sake.
        """

    def get_scale(self) -> float:
        """The scale, 1."""
        return 1.0

    def is_enabled(self) -> bool:
        """Whether losses are scaled: no."""
        return False

    def state_dict(self) -> dict[str, Any]:
        """What changes in training: nothing."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what `state_dict` gave, also PyTorch's; a scale in it has no effect.

        Args:
            state_dict: the state.
        """
