"""The memory of methods that differs from LoRA's: what they store for the backward pass, and their
temporary memory.

Why: some methods make a matrix as large as the layer's weight in each step, which for a short row
is more than all activations; others keep nothing of what a LoRA keeps. Read off PEFT's forward
passes, and held to a dry run by ``tests/studio/estimate/test_dry_run.py``. A method without an
entry is assumed to store what LoRA stores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from studio.model.shapes import Linear

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Kept:
    """Numbers of one adapted layer. Per token: ``reads`` whether the input of A is kept,
    ``reads_wide`` in the adapter's width even where autocast computes in another, ``middle``
    what lies between A and B (``None``: the rank), ``outputs`` in the stream's width, ``wide`` in the
    adapter's. Whatever the number of tokens: ``factors`` are trained matrices that autocast copies
    (``None``: LoRA's), ``matrices`` what is computed from them, ``casts`` the same where autocast
    computes in another width than the adapter's. ``frozen`` numbers lie beside the trained ones.
    ``shared`` is the size of A and of B where all layers use one pair. ``moment``: numbers in the
    adapter's width that are there only while the layer computes; ``moment_casts`` such copies of what
    is narrower; ``brief`` those in the width between A and B. ``gradients``: numbers per token in the
    adapter's width that its gradient needs beside a LoRA's, ``gradient_casts`` those that it needs
    where the stream is narrower."""

    matrices: int = 0
    casts: int = 0
    outputs: int = 0
    reads: bool = True
    reads_wide: bool = False
    middle: int | None = None
    wide: int = 0
    factors: int | None = None
    frozen: int = 0
    shared: tuple[int, int] = (0, 0)
    moment: int = 0
    moment_casts: int = 0
    brief: int = 0
    gradients: int = 0
    gradient_casts: int = 0


NOTHING = Kept()
FLOAT32_BASE = frozenset({"glora", "shira", "supertuning"})
"""Methods that compute with the base's weights themselves: where a CPU computes in float32 with weights in bfloat16,
their base is in float32 (``studio.training.adapter.attach``)."""
FUSED = frozenset({"lora", "lora_plus", "rslora"})
"""Methods whose layers are computed by fused functions, and keep what LoRA keeps."""
OfLayer = Callable[[Linear, int, Settings], Kept]


def _lora(m: Linear, r: int, settings: Settings) -> Kept:
    """What LoRA keeps, checked."""
    del m, r, settings
    return NOTHING


def _change(m: Linear, r: int, settings: Settings) -> Kept:
    """The change, or the changed weight."""
    del r, settings
    return Kept(matrices=m.weights)


def _dora(m: Linear, r: int, settings: Settings) -> Kept:
    """The frozen matrix's output and the adapter's, whose gradients lie side by side in the adapter's
    width. For the norm B A is made by way of a unit matrix, scaled and added to the frozen weight."""
    del r, settings
    return Kept(
        outputs=2 * m.width_out,
        gradient_casts=2 * m.width_out,
        moment=2 * m.weights,
        moment_casts=2 * m.weights,
        brief=m.width_in * m.width_in + m.weights,
    )


def _deft(m: Linear, r: int, settings: Settings) -> Kept:
    """The output out of which a part is taken."""
    del r, settings
    return Kept(outputs=m.width_out)


def _peanut(m: Linear, r: int, settings: Settings) -> Kept:
    """The change, and the weight that it is made of."""
    del r, settings
    return Kept(matrices=m.weights, casts=m.weights)


def _fourierft(m: Linear, r: int, settings: Settings) -> Kept:
    """The change; its transform is complex, and is there beside the spectrum for a moment."""
    del r, settings
    return Kept(matrices=m.weights, moment=4 * m.weights)


def _hra(m: Linear, r: int, settings: Settings) -> Kept:
    """Each reflection but an orthogonal one multiplies a square matrix by a vector and keeps it; then
    their product's factor, a unit matrix, and the changed weight."""
    from studio.adapters.research.hra import HraSettings

    orthogonal = HraSettings.model_validate(settings).orthogonal
    squares = 1 if orthogonal else 1 + r - r % 2
    square = m.width_in * m.width_in
    return Kept(matrices=squares * square + m.weights, middle=0, factors=0, moment=3 * square)


def _osf(m: Linear, r: int, settings: Settings) -> Kept:
    """Both the trained directions and those that they began as, joined to matrices of twice their
    number; of the wider side the other directions are stored too, to keep gradients out of them."""
    from studio.adapters.research.osf import OsfSettings, trained_directions

    del r
    most, both = min(m.width_in, m.width_out), m.width_in + m.width_out
    trained = trained_directions(m.width_in, m.width_out, OsfSettings.model_validate(settings).kept)
    others = (most - trained) * max(m.width_in, m.width_out) if m.width_in != m.width_out else 0
    return Kept(
        matrices=2 * trained * both,
        middle=2 * trained,
        factors=0,
        frozen=trained * (both + 1) + others,
    )


def _vera(m: Linear, r: int, settings: Settings) -> Kept:
    """A and B are frozen: what is kept is their outputs, and with autocast their copies."""
    from studio.adapters.vera import VeraSettings

    del r
    width = int(VeraSettings.model_validate(settings).width)
    a, b = width * m.width_in, width * m.width_out
    return Kept(reads=False, middle=width + m.width_out, factors=0, casts=a + b, shared=(a, b))


def _ia3(m: Linear, r: int, settings: Settings) -> Kept:
    """What is scaled: the input of the feed-forward's last matrix, in the adapter's width, or the output."""
    from studio.adapters.ia3 import INPUT_SCALED

    del r, settings
    if m.name.rpartition(".")[2] in INPUT_SCALED:
        return Kept(reads=False, middle=0, factors=0, wide=m.width_in)
    return Kept(reads=False, middle=0, factors=0, outputs=m.width_out)


def _beft(m: Linear, r: int, settings: Settings) -> Kept:
    """A sum stores nothing."""
    del m, r, settings
    return Kept(reads=False, middle=0, factors=0)


def _c3a(m: Linear, r: int, settings: Settings) -> Kept:
    """The input in float32, in which the Fourier transform computes; the transforms of input and
    gradient are complex."""
    del r, settings
    return Kept(reads_wide=True, middle=0, factors=0, gradients=2 * (m.width_in + m.width_out))


def _miss(m: Linear, r: int, settings: Settings) -> Kept:
    """The input's sums over r groups, and the trained matrix."""
    del settings
    return Kept(reads=False, factors=r * m.width_out)


def _glora(m: Linear, r: int, settings: Settings) -> Kept:
    """The changed weight; its terms and their sum are there for a moment."""
    del r, settings
    return Kept(matrices=m.weights, brief=3 * m.weights)


def _loha(m: Linear, r: int, settings: Settings) -> Kept:
    """The change, and autocast's copies of both pairs; its gradient, scaled, and two
    products in the adapter's width for a moment."""
    del settings
    pairs = 2 * r * (m.width_in + m.width_out)
    return Kept(
        matrices=m.weights, middle=0, factors=pairs, moment=2 * m.weights, brief=2 * m.weights
    )


def _lokr(m: Linear, r: int, settings: Settings) -> Kept:
    """The change; its gradient, scaled, and a product of that for a moment."""
    del r, settings
    return Kept(matrices=m.weights, middle=0, factors=0, moment=2 * m.weights)


KEPT: dict[str, OfLayer] = {
    "dora": _dora,
    "deft": _deft,
    "peanut": _peanut,
    "glora": _glora,
    "hira": _change,
    "fourierft": _fourierft,
    "waveft": _change,
    "supertuning": _change,
    "hra": _hra,
    "osf": _osf,
    "vera": _vera,
    "ia3": _ia3,
    "beft": _beft,
    "miss": _miss,
    "c3a": _c3a,
    "adalora": _lora,
    "bdlora": _lora,
    "loha": _loha,
    "lokr": _lokr,
}
