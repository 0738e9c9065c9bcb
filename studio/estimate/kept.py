"""What a method keeps until the gradient beside what a LoRA of its rank keeps.

Why: some methods make a matrix as large as the layer's weight in each step, which for a short row is
more than all activations. Read off PEFT's forward passes, and held to a dry run by
``tests/studio/estimate/test_dry_run.py``. A method without an entry is taken to keep what LoRA keeps.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kept:
    """Of each layer: ``matrices`` as large as its weight, ``casts`` that are as large and exist only
    where autocast computes in another width than the adapter's, and ``outputs`` of the layer's width."""

    matrices: int = 0
    casts: int = 0
    outputs: int = 0


NOTHING = Kept()
KEPT = {
    "dora": Kept(outputs=2),  # the frozen matrix's output and the adapter's, each times the length
    "deft": Kept(outputs=1),  # the output out of which a part is taken
    "peanut": Kept(matrices=1, casts=1),  # the change, and the weight that it is made of
    "glora": Kept(matrices=1), "hira": Kept(matrices=1), "fourierft": Kept(matrices=1),
    "waveft": Kept(matrices=1), "supertuning": Kept(matrices=1),  # the change, or the changed weight
}  # fmt: skip
