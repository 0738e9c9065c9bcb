"""The operations per token of a training, from which a measured speed gives its time.

N are the weights of the decoder's linear layers, ρ the share of tokens that are learned, P the
adapter's parameters, q = heads × head size, s the length, L the layers:

    no checkpointing:    4·N + 4·ρ·h·V + 6·P + 7·q·s·L
    with checkpointing:  + 2·N + 2·P + 2·q·s·L
    full fine-tuning:    6·N + 6·h·V (+ 2·N with checkpointing)

A frozen matrix needs its input's gradient but not its own: 4 in place of 6. The fraction of the
device's peak that programs reach differs by a factor of three, so none is assumed: the time is
known only after a run or a probe on this machine.
"""

from __future__ import annotations

from studio.model.shapes import Shape


def operations_per_token(
    shape: Shape,
    adapter: int,
    length: float,
    labels: float = 1.0,
    *,
    checkpointing: bool = False,
    full: bool = False,
) -> float:
    """Floating-point operations of forward and backward pass for one token."""
    active = sum(m.weights * min(1.0, shape.experts_active / m.experts) for m in shape.linears)
    head = shape.hidden * shape.vocabulary * labels
    attention = shape.query * length * shape.layers
    again = 2 * active + 2 * adapter + 2 * attention if checkpointing else 0.0
    if full:
        return 6 * active + 6 * head + 7 * attention + (again - 2 * adapter if checkpointing else 0)
    return 4 * active + 4 * head + 6 * adapter + 7 * attention + again
