"""Combines the pairs of several adapters: exactly, or with PEFT's functions on ΔW followed by an SVD.

Each pair is A (r, in) and B (out, r) with ΔW = B·A. The methods that prune are those of ``peft.utils.merge_utils`` on
the change of a layer, as in PEFT's ``ties_svd``, ``dare_linear_svd``, ``dare_ties_svd`` and ``magnitude_prune_svd``. A
negative weight changes the sign of ΔW before signs are elected; PEFT elects them without the weights, so that TIES
would add what it should subtract. TIES: Yadav et al. 2023; DARE: Yu et al. 2024.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import torch
from peft.utils import merge_utils

from studio.node_settings.adapter_mix import AdapterMixSettings
from studio.training.adapter.insight import singular_values
from studio.training.export.portable import Pair, Plain, decomposed
from studio.training.merge.resize import shrink

_ROUNDING = 4e-7
"""Relative to the largest singular value: smaller ones are rounding of float32."""


def inner(one: Pair, other: Pair) -> float:
    """The sum of the products of the values of two changes, without a matrix of the layer's size."""
    left = one.b.double().T @ other.b.double()
    right = one.a.double() @ other.a.double().T
    return float((left * right).sum())


def norms_and_cosines(sources: Sequence[Plain]) -> tuple[list[float], list[list[float]]]:
    """‖ΔW‖ (Frobenius, over all layers) of each source, and the cosines between them: (sources, sources)."""
    products = [
        [sum(inner(p, b.pairs[n]) for n, p in a.pairs.items() if n in b.pairs) for b in sources]
        for a in sources
    ]
    norms = [math.sqrt(max(products[i][i], 0.0)) for i in range(len(sources))]

    def cosine(i: int, j: int) -> float:
        size = norms[i] * norms[j]
        return max(-1.0, min(1.0, products[i][j] / size)) if size else 0.0

    every = range(len(sources))
    return norms, [[1.0 if i == j else cosine(i, j) for j in every] for i in every]


def combined(
    sources: Sequence[Plain], weights: Sequence[float], settings: AdapterMixSettings
) -> Plain:
    """All layers of the sources, combined. The same seed drops the same values for all weights. Layers without a
    change are left out, so that the result may have no pairs."""
    effective = [s for s, w in zip(sources, weights, strict=True) if w]
    made = Plain(
        sorted({name for s in effective for name in s.target_modules}),
        any(s.transposed for s in sources),
    )
    highest = max((s.rank for s in effective), default=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        for path in dict.fromkeys(p for s in sources for p in s.pairs):
            found = [
                (s.pairs[path], w)
                for s, w in zip(sources, weights, strict=True)
                if w and path in s.pairs
            ]
            if found:
                pairs, factors = [p for p, _ in found], [w for _, w in found]
                made.pairs[path] = _layer(pairs, factors, settings, settings.r or highest)
                made.computed.add(path)
    return made


def _layer(
    pairs: Sequence[Pair], weights: Sequence[float], settings: AdapterMixSettings, limit: int
) -> Pair:
    if settings.method in ("linear", "cat", "svd"):
        return _sum(pairs, weights, settings.method, limit)
    change = _pruned(pairs, weights, settings)
    noise = torch.finfo(torch.float32).eps * float(change.norm())
    return decomposed(change, limit, noise, pairs[0].embedding)


def _sum(pairs: Sequence[Pair], weights: Sequence[float], method: str, limit: int) -> Pair:
    """Σ w·B·A as one pair: beside each other, of the lowest rank that holds it, or truncated."""
    a = torch.cat([p.a for p in pairs])
    b = torch.cat([w * p.b for p, w in zip(pairs, weights, strict=True)], dim=1)
    both = Pair(a, b, pairs[0].embedding)
    if method == "cat":
        return _with_energy(both, 0.0)
    values = singular_values(a, b, 1.0)
    needed = max(1, int((values > _ROUNDING * values.max()).sum()))
    if method == "linear" and needed == a.shape[0]:
        return _with_energy(both, 0.0)
    found = shrink(a, b, 1.0, needed if method == "linear" else min(limit, needed))
    lost = 0.0 if found.r == needed else found.energy * (1.0 - found.kept)
    return Pair(found.a, found.b, both.embedding, found.energy, lost)


def _with_energy(pair: Pair, lost: float) -> Pair:
    return Pair(pair.a, pair.b, pair.embedding, max(inner(pair, pair), 0.0), lost)


def _pruned(
    pairs: Sequence[Pair], weights: Sequence[float], settings: AdapterMixSettings
) -> torch.Tensor:
    """The combined change of a layer (out, in) by PEFT's function; the sign of a weight is part of its change."""
    changes = [math.copysign(1.0, w) * (p.b @ p.a) for p, w in zip(pairs, weights, strict=True)]
    sizes = torch.tensor([abs(w) for w in weights])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The density")  # 1: nothing is pruned, as wanted
        if settings.method == "dare_linear":
            return merge_utils.dare_linear(changes, sizes, settings.density)
        if settings.method == "magnitude_prune":
            return merge_utils.magnitude_prune(changes, sizes, settings.density)
        signed = merge_utils.ties if settings.method == "ties" else merge_utils.dare_ties
        return signed(changes, sizes, settings.density, settings.majority_sign)


def grid(weights: Sequence[float], points: int) -> list[tuple[float, ...]]:
    """The weights to compare: for two sources from only the first to only the second with the same sum, otherwise
    multiples from 0 to 1.5. The chosen weights are always among them."""
    chosen = tuple(float(w) for w in weights)
    found: list[tuple[float, ...]] = []
    for i in range(points):
        share = i / (points - 1) if points > 1 else 0.5
        total = sum(chosen)
        if len(chosen) == 2 and total:
            found.append(((1 - share) * total, share * total))
        else:
            found.append(tuple(1.5 * share * w for w in chosen))
    rounded = [tuple(round(w, 6) for w in point) for point in found]
    if tuple(round(w, 6) for w in chosen) not in rounded:
        rounded.append(chosen)
    return list(dict.fromkeys(rounded))


def used(weights: Mapping[str, float]) -> str:
    """``0.5 × Train 1 − 1 × Train 2``."""
    text = ""
    for title, weight in weights.items():
        sign = "−" if weight < 0 else "+"
        head = f" {sign} " if text else ("−" if weight < 0 else "")
        text += f"{head}{abs(weight):.4g} × {title}"
    return text
