"""Layers in int8 keep no activations for the backward pass.

bitsandbytes stores the input of each layer on the context of its autograd function, where neither gradient
checkpointing nor anything else of autograd sees it, so that it stays in memory until the backward pass. The input
is used for the gradient of the weight only, which is frozen here. It is therefore removed at the end of the forward
pass.
"""

from __future__ import annotations

from typing import Any

from studio.training.model.quiet import output_to_log

_WEIGHT = 1
"""The position of the weight among the arguments of the functions of bitsandbytes."""


def keep_no_inputs() -> None:
    """Replace the autograd functions of bitsandbytes for int8; once per process."""
    with output_to_log():
        from bitsandbytes.autograd import _functions

    if getattr(_functions, "_keeps_no_inputs", False):
        return
    for name in ("MatMul8bitLt", "MatMul8bitFp"):
        kind = getattr(_functions, name, None)
        if kind is not None:
            setattr(_functions, name, _without_input(kind))
    _functions._keeps_no_inputs = True


def _without_input(kind: Any) -> Any:
    """The autograd function ``kind`` of bitsandbytes, whose context keeps no input for a frozen weight."""

    class Frozen(kind):
        @staticmethod
        def forward(ctx: Any, *args: Any) -> Any:
            result = kind.forward(ctx, *args)
            if not ctx.needs_input_grad[_WEIGHT] and not getattr(ctx, "is_empty", False):
                for name in ("tensors", "tensor_states"):
                    if hasattr(ctx, name):
                        setattr(ctx, name, (None,) * len(getattr(ctx, name)))
                ctx.A = None
            return result

    Frozen.__name__ = kind.__name__
    return Frozen
