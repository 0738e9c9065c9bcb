"""Dry run: traces a training step without computing and without allocating memory.

The model consists of fake tensors, which have a shape and a size but no data. Forward, backward and
optimizer step run the real code of transformers, PEFT and autograd, while a dispatch mode tracks
every storage. So the peak is that of the real code, for any architecture, method and optimizer,
without a formula. Fragmentation of the allocator and workspaces inside kernels are not included.
Weights are not loaded.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, masking_utils

from studio.estimate.activations import Mode
from studio.estimate.memory import CHUNK, Batch
from studio.estimate.optimizers import PAGED_FROM
from studio.training.batch.attention import row_boundaries, use_row_attention
from studio.training.fused.swap import fuse
from studio.training.model import attention_kernel
from studio.training.model.load import remove_kernels
from studio.training.model.wide_products import widen

STEPS = 2
"""The optimizer's states exist from the second step on."""


@dataclass(frozen=True)
class DryRun:
    """Bytes held by tensors before the step, after the forward pass, and at the peak; and the
    number of parameters counted by PEFT, and of trained ones in tensors that are not paged.
    """

    standing: int
    forward: int
    peak: int
    trainable: int
    total: int
    small: int = 0


class LiveStorages(TorchDispatchMode):
    """Sums up the sizes of live storages; ``peak`` is the maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: dict[int, Any] = {}

    def follow(self, tensor: torch.Tensor) -> None:
        """Count the tensor's storage until it is freed."""
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key in self._alive:
            return

        def gone(_: Any) -> None:
            self._alive.pop(key, None)
            self.now -= size

        self._alive[key] = weakref.ref(storage, gone)
        self.now += size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, torch.Tensor):
                self.follow(leaf)
        self.peak = max(self.peak, self.now)
        return made


def meta_model(config: Mapping[str, Any], dtype: torch.dtype) -> Any:
    """The model described by a ``config.json``, without memory."""
    named = {k: v for k, v in config.items() if k not in ("model_type", "quantization_config")}
    made = CONFIG_MAPPING[config["model_type"]](**named)
    made.use_cache = False
    remove_kernels(made)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(made, dtype=dtype)


def dry_run(
    config: Mapping[str, Any],
    mode: Mode,
    batch: Batch,
    adapt: Callable[[Any], Any] | None = None,
    optimizer: Callable[[Any], torch.optim.Optimizer] | None = None,
) -> DryRun:
    """Trace two steps of a training.

    ``adapt`` adds the adapter to the model; without it, full fine-tuning is traced. Raises
    ``ValueError`` for a quantized base.
    """
    if mode.quantization != "none":
        raise ValueError("a quantized model has no fake tensors")
    single = mode.weights == 4 and not mode.stored
    model = meta_model(config, torch.float32 if single else torch.bfloat16)
    if mode.stored:
        widen(model)
    if adapt is not None:
        with torch.device("meta"):
            model = adapt(model)
    if mode.fused:
        fuse(model, tried=False)
    if mode.checkpointing:
        if not mode.full:
            model.enable_input_require_grads()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    with FakeTensorMode(allow_non_fake_inputs=True), _masks(mode.masked), _keys(mode.repeats_keys):
        model = model.to_empty(device="cpu").train()
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        inner.tie_weights()  # to_empty separates tied weights
        return _follow(model, mode, batch, optimizer)


def _follow(
    model: Any, mode: Mode, batch: Batch, optimizer: Callable[[Any], torch.optim.Optimizer] | None
) -> DryRun:
    live = LiveStorages()
    for tensor in (*model.parameters(), *model.buffers()):
        live.follow(tensor)
    trained = [p for p in model.parameters() if p.requires_grad]
    steps = optimizer(model) if optimizer else torch.optim.AdamW(trained, foreach=False)
    joined = mode.joined and use_row_attention(model)
    forward = 0
    with live:
        for step in range(STEPS):
            last = step == STEPS - 1
            for _ in range(2 if last and batch.accumulated else 1):
                loss = _loss(model, mode, batch, joined)
                forward = live.now
                loss.backward()
                del loss
            steps.step()
            steps.zero_grad()
    total = sum(p.numel() for p in model.parameters())
    standing = sum(p.numel() * p.element_size() for p in model.parameters())
    sizes = [p.numel() for p in trained]
    small = sum(size for size in sizes if size < PAGED_FROM)
    return DryRun(standing, forward, live.peak, sum(sizes), total, small)


def _loss(model: Any, mode: Mode, batch: Batch, joined: bool) -> Any:
    """The loss as computed by ``studio.training.loop.sft``; positions with labels come first,
    because a fake mask has no data to select them. ``joined``: the rows share a sequence.
    """
    ids = torch.zeros(batch.rows, batch.length, dtype=torch.long)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    if joined:  # without position ids, which a model would ask for the rows' beginnings
        ids = ids.reshape(1, -1)
        inputs = {"input_ids": ids, "use_cache": False}
    lengths = (batch.length,) * batch.rows if joined else None
    with _autocast(mode), row_boundaries(lengths, ids.device):
        if mode.head == "plain":
            out = model(**inputs, labels=ids)
            return out.loss if mode.autocast else _kept(out)
        if mode.head == "full":
            logits = model(**inputs).logits
        else:
            rows = 1 if joined else batch.rows
            count = max(1, batch.labels // rows)
            if mode.head == "chunks":
                count = min(count, max(1, CHUNK // (model.config.vocab_size * rows)))
            logits = model(**inputs, logits_to_keep=torch.arange(count)).logits
            ids = ids[:, :count]
        return cross_entropy(logits.flatten(0, 1).float(), ids.flatten(), reduction="sum")


def _kept(out: Any) -> Any:
    """The loss with the logits attached, which a plain training loop keeps alive."""
    out.loss.logits = out.logits
    return out.loss


def _autocast(mode: Mode) -> AbstractContextManager[Any]:
    return torch.autocast("cpu", dtype=torch.bfloat16) if mode.autocast else nullcontext()


@contextmanager
def _keys(repeated: bool) -> Iterator[None]:
    """Repeat keys and values where the kernel of the training's device needs it."""
    attention_kernel.register_attention()
    before = attention_kernel.takes_fewer_keys
    attention_kernel.takes_fewer_keys = lambda *_: not repeated
    try:
        yield
    finally:
        attention_kernel.takes_fewer_keys = before


@contextmanager
def _masks(padded: bool) -> Iterator[None]:
    """Skip masks: rows without padding need none, and a fake mask has no data to test."""
    before = masking_utils._ignore_causal_mask_sdpa
    if not padded:
        masking_utils._ignore_causal_mask_sdpa = lambda *a, **k: True
    try:
        yield
    finally:
        masking_utils._ignore_causal_mask_sdpa = before
