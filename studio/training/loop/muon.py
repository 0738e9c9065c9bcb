"""Muon (Jordan et al., 2024) for matrices and AdamW for all other parameters, as one optimizer.

Scheduler, checkpoints and training loop expect a single optimizer. Each Muon update is scaled to
the size of an AdamW update (Liu et al., 2025, arXiv:2502.16982), so that learning rates carry over.
Muon is defined for matrices and not used for vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim._muon import muon

_COEFFICIENTS = (3.4445, -4.775, 2.0315)  # quintic Newton-Schulz iteration
_ITERATIONS = 5
_NORM_EPSILON = 1e-7


class MuonAdamW(torch.optim.AdamW):
    """AdamW with Muon updates for groups of matrices; vectors, and groups marked ``table``
    (embeddings), use AdamW.
    """

    param_groups: list[dict[str, Any]]

    def __init__(self, groups: list[dict[str, Any]], *, momentum: float, **adamw: Any) -> None:
        ready = []
        for group in groups:
            is_matrix = [p.dim() == 2 and not group.get("table") for p in group["params"]]
            for wanted in (True, False):
                chosen = [p for p, m in zip(group["params"], is_matrix, strict=True) if m == wanted]
                if chosen:
                    ready.append({**group, "params": chosen, "muon": wanted, "momentum": momentum})
        super().__init__(ready, weight_decay=0.0, **adamw)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update of every group."""
        every = self.param_groups
        self.param_groups = [g for g in every if not g["muon"]]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = every
        for group in every:
            if group["muon"]:
                self._muon_step(group)
        return loss

    def _muon_step(self, group: dict[str, Any]) -> None:
        moved = [p for p in group["params"] if p.grad is not None]
        for p in moved:
            if not self.state[p]:  # AdamW requires a step when a checkpoint is loaded
                self.state[p] = {"step": torch.zeros(()), "momentum_buffer": torch.zeros_like(p)}
        muon(
            moved,
            [p.grad for p in moved],
            [self.state[p]["momentum_buffer"] for p in moved],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            nesterov=True,
            ns_coefficients=_COEFFICIENTS,
            ns_steps=_ITERATIONS,
            eps=_NORM_EPSILON,
            adjust_lr_fn="match_rms_adamw",
            has_complex=False,
        )
