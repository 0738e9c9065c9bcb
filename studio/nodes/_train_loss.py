"""Settings of the Train node: what is added to the plain loss.

It must not say how it is computed: see ``studio.training.loop.sft`` and ``studio.training.loop.noise``.
"""

from __future__ import annotations

from studio.graph.schema import setting
from studio.nodes._train_data import DataSettings


class LossSettings(DataSettings):
    """Regularisation of the outputs; the validation loss goes without it."""

    label_smoothing: float = setting(
        0.0, "Label smoothing", "Share of each target that is spread over the whole vocabulary, so that the model "
        "becomes less sure of itself. 0 to 0.1. The training loss shown includes it.", group="Loss",
        ge=0.0, lt=1.0, step=0.01, special={0.0: "off"}, advanced=True,
    )  # fmt: skip
    z_loss: float = setting(
        0.0, "Z-loss", "Factor of log(Z)², Z being the sum under the softmax: keeps logits from growing, which "
        "steadies trainings in half precision (PaLM). 1e-4 is usual. The training loss shown includes it.",
        group="Loss", ge=0.0, le=1.0, special={0.0: "off"}, advanced=True,
    )  # fmt: skip
    neftune_alpha: float = setting(
        0.0, "NEFTune noise", "Noise on the input embeddings while training (Jain et al. 2023): answers become "
        "longer and less copied on small data sets. 5 to 15. Nothing of it is saved.", group="Loss", ge=0.0,
        le=1000.0, special={0.0: "off"}, advanced=True,
    )  # fmt: skip
