"""Safetensors files of this program: read without mapping them, written even if another program looks at them.

``load_file`` maps a file as long as one of its tensors lives. Windows then refuses to replace, rename or delete the
file, for example when a converted adapter is saved in its place, or when a checkpoint that a run has resumed from
is removed. The tensors returned here have their own memory. For one tensor out of many, ``safe_open`` in a ``with``
block does the same with ``backend="pread"``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from studio.system.busy_files import patiently


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file by name, on the CPU."""
    tensors: dict[str, torch.Tensor] = load_file(path, backend="pread")
    return tensors


def write_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors, contiguous and on any device, in the format that PEFT and transformers read."""
    owned = dict(tensors)
    patiently(lambda: save_file(owned, path, metadata={"format": "pt"}))
