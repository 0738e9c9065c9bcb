"""Compares next-token probabilities: divergence, agreement and loss, from arrays of log-probabilities.

llama.cpp returns only the most likely tokens. The rest of its probability is spread evenly over the others here, and
in the divergence the tokens that neither side finds likely count as one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_LIKELY = 64


@dataclass(frozen=True)
class Difference:
    """How the probabilities of one model differ from those of another: divergence per position (nats), and the share
    of positions with the same most likely token."""

    kl_mean: float
    kl_p99: float
    top1_agreement: float


def difference(wanted: Array, found: Array, known: Array | None = None) -> Difference:
    """How ``found`` differs from ``wanted``: log-probabilities (positions, vocabulary). ``known`` marks the values of
    ``found`` that were measured; all if ``None``."""
    each = divergences(wanted, found, known)
    same = wanted.argmax(axis=1) == found.argmax(axis=1)
    return Difference(float(each.mean()), float(np.quantile(each, 0.99)), float(same.mean()))


def divergences(wanted: Array, found: Array, known: Array | None = None) -> Array:
    """The Kullback-Leibler divergence of ``found`` from ``wanted`` at each position, in nats."""
    width = min(wanted.shape[1], found.shape[1])  # rows that pad the vocabulary have no probability
    p, q = wanted[:, :width].astype(np.float64), found[:, :width].astype(np.float64)
    terms = np.exp(p) * (p - q)
    if known is None:
        return np.maximum(terms.sum(axis=1), 0.0) if np.isfinite(q).all() else terms.sum(axis=1)
    chosen = known[:, :width].copy()
    likely = np.argpartition(p, -min(_LIKELY, width), axis=1)[:, -min(_LIKELY, width) :]
    np.put_along_axis(chosen, likely, True, axis=1)
    rest_p = np.clip(1 - np.where(chosen, np.exp(p), 0).sum(axis=1), 1e-12, None)
    rest_q = np.clip(1 - np.where(chosen, np.exp(q), 0).sum(axis=1), 1e-12, None)
    sums = np.where(chosen, terms, 0).sum(axis=1) + rest_p * np.log(rest_p / rest_q)
    return np.maximum(sums, 0.0)


def loss(found: Array, labels: Array) -> float:
    """The mean negative log-probability of the expected tokens (nats)."""
    return float(-found[np.arange(len(labels)), labels].mean())


def first_difference(wanted: list[list[int]], found: list[list[int] | None]) -> int | None:
    """The first generated token that differs in any of the texts (0-based); ``None`` if all known ones are the
    same."""
    places = [
        next((i for i, (a, b) in enumerate(zip(w, f, strict=False)) if a != b), min(len(w), len(f)))
        for w, f in zip(wanted, found, strict=True)
        if f is not None and w != f
    ]
    return min(places, default=None)
