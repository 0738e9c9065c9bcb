"""The states of a paged optimizer of bitsandbytes, restored from a checkpoint.

Paged states are in memory that the driver moves between GPU and CPU. bitsandbytes allocates it in the first step,
but loads a checkpoint into the memory of the GPU: a training that only fits with paged states would run out of
memory when it is resumed.
"""

from __future__ import annotations

from typing import Any

import torch

_STATES = ("state1", "state2")


def is_paged(optimizer: Any) -> bool:
    """Whether an optimizer has paged states, which bitsandbytes has on a GPU only."""
    return bool(getattr(optimizer, "is_paged", False))


@torch.no_grad()
def load_paged(optimizer: Any, values: dict[str, Any]) -> None:
    """``load_state_dict`` of a paged optimizer: large states go from the CPU into paged memory, and never into
    that of the GPU."""
    optimizer.load_state_dict(values, move_to_device=False)
    for parameter, state in optimizer.state.items():
        for name in _STATES:
            loaded = state.get(name)
            if isinstance(loaded, torch.Tensor):
                buffer = optimizer.get_state_buffer(parameter, dtype=loaded.dtype)
                buffer.copy_(loaded)
                state[name] = buffer
    optimizer.to_gpu()  # what is not paged
