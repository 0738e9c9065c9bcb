"""Clusters rows by k-means (Lloyd, 1982) with a minimum size.

The one method that uses it needs reproducible groups of a minimum size, which no dependency of the
program provides. Uses its own random number generator.
"""

from __future__ import annotations

from typing import Any

_ROUNDS = 10
_SEED = 0


def clusters(rows: Any, count: int, least: int = 1) -> Any:
    """The cluster, 0 to ``count`` - 1, of each of ``rows`` (n, features); n is at least count × least."""
    import torch

    if rows.is_meta:
        return torch.arange(len(rows)) % count
    rows = rows.detach().float().cpu()
    generator = torch.Generator().manual_seed(_SEED)
    centres = _spread(rows, count, generator)
    for _ in range(_ROUNDS):
        found = torch.cdist(rows, centres).argmin(dim=1)
        sums = torch.zeros_like(centres).index_add_(0, found, rows)
        sizes = torch.bincount(found, minlength=count)
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp(min=1)[:, None], centres)
    distances = torch.cdist(rows, centres)
    return _filled(distances, distances.argmin(dim=1), least)


def _spread(rows: Any, count: int, generator: Any) -> Any:
    """Initial centres (count, features) by k-means++ (Arthur and Vassilvitskii, 2007)."""
    import torch

    centres = rows[:1]
    for _ in range(count - 1):
        far = torch.cdist(rows, centres).amin(dim=1).square().clamp(min=1e-12)
        centres = torch.cat([centres, rows[torch.multinomial(far, 1, generator=generator)]])
    return centres


def _filled(distances: Any, found: Any, least: int) -> Any:
    """Clusters below the minimum size take the nearest rows from clusters above it."""
    count = distances.shape[1]
    for group in range(count):
        while int((found == group).sum()) < least:
            sizes = found.bincount(minlength=count)
            spare = (sizes[found] > least) & (found != group)
            nearest = distances[:, group].masked_fill(~spare, float("inf")).argmin()
            found[nearest] = group
    return found
