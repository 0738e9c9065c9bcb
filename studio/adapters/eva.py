"""EVA (Paischer et al., 2024, arXiv:2410.07170): A is initialized with the principal directions of
the layer's inputs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from studio.adapters.calibration import inputs_of, large_batches
from studio.errors import StudioError
from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting
from studio.values import AdaptedModelValue
from studio.variants.lora_method import Hooks, LoraMethod, TrainingFacts, lora_config, own_settings

_TOKENS_PER_DIRECTION = 4
_MOST_PASSES = 300


class EvaSettings(Settings):
    """How the directions are computed and distributed."""

    rho: float = setting(
        2.0,
        "Redistribution",
        "Maximum rank of a layer as a multiple of r. Layers gain rank at the cost "
        "of others. 1 gives all layers the same rank.",
        unit="× r",
        ge=1.0,
        le=8.0,
        step=0.5,
    )
    tau: float = setting(
        0.99,
        "Convergence",
        "Cosine similarity of the directions of two consecutive batches at which "
        "the initialization ends.",
        ge=0.5,
        lt=1.0,
        step=0.01,
        advanced=True,
    )
    whiten: bool = setting(
        False, "Whiten", "Divide each direction by its singular value.", advanced=True
    )


def _build(value: AdaptedModelValue) -> Any:
    from peft import EvaConfig

    own = own_settings(value, EvaSettings)
    eva = EvaConfig(rho=own.rho, tau=own.tau, whiten=own.whiten, use_label_mask=False)
    return lora_config(value, init_lora_weights="eva", eva_config=eva)


def _initialise(model: Any, config: Any, facts: TrainingFacts) -> None:
    """Compute the directions from the first rows until they converge."""
    from peft import initialize_lora_eva_weights

    wanted = int(config.r * config.eva_config.rho) * _TOKENS_PER_DIRECTION
    batches = [inputs_of(b, model.device) for b in large_batches(facts, wanted)]
    initialize_lora_eva_weights(model, _Passes(facts, batches), show_progress_bar=False)


class _Passes:
    """Repeats the batches up to a limit; the run can be stopped at each."""

    def __init__(self, facts: TrainingFacts, batches: list[dict[str, Any]]) -> None:
        self.facts = facts
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in itertools.islice(itertools.cycle(self.batches), _MOST_PASSES):
            self.facts.check()
            yield dict(batch)
        raise StudioError(
            "The initialization of EVA did not converge on these rows.",
            title="The initialization did not converge",
            hint="Lower Convergence or the rank, or choose LoRA.",
            field="method_settings.tau",
            code="eva_not_converged",
        )


VARIANT = Variant(
    kind="adapter",
    id="eva",
    title="EVA",
    order=70,
    settings=EvaSettings,
    help="LoRA initialized with the principal directions of the layer inputs on "
    "your data; layers that need more rank receive more. When to use it: to "
    "learn faster than LoRA at the same size. Paischer et al. 2024, "
    "arXiv:2410.07170.",
    payload=LoraMethod(
        _build,
        # 5e-4 in PEFT's example.
        learning_rates=(2e-5, 5e-4, 2e-3),
        paper="arXiv:2410.07170",
        hooks=Hooks(initialise=_initialise),
        uses=frozenset({"r", "alpha", "dropout", "bias"}),
    ),
)
