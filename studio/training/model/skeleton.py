"""The structure of a model without its weights, to which PEFT adds an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights

from studio.model.trust import may_run_code
from studio.training.model.load import config_of


def skeleton(base: Path, *, buffers: bool = False) -> Any:
    """The model's structure with weights that read as zeros and take no memory. With ``buffers``, those that the
    config determines, such as the frequencies of RoPE, have their values, so that the model can be run.

    Not on the meta device: PEFT moves an adapter to the device of its layer, where its values would
    be lost.
    """
    from transformers import AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    config = config_of(base)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with (
        init_empty_weights(include_buffers=False) if buffers else torch.device("meta"),
        no_init_weights(),
    ):
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, trust_remote_code=may_run_code(base)
        )
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            stub = torch.zeros(()).expand(parameter.shape)
            setattr(module, name, torch.nn.Parameter(stub, requires_grad=False))
    return model
