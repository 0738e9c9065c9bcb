"""Groups by k-means: near rows together, none too small, the same again."""

from __future__ import annotations

import torch

from studio.adapters.research.clusters import clusters


def heaps() -> torch.Tensor:
    """Sixty rows around three far points."""
    generator = torch.Generator().manual_seed(5)
    points = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    return points.repeat_interleave(20, dim=0) + 0.1 * torch.randn(60, 2, generator=generator)


def test_rows_of_one_heap_are_one_group() -> None:
    found = clusters(heaps(), 3)
    parts = [found[i : i + 20].unique().tolist() for i in (0, 20, 40)]
    assert sorted(parts) == [[0], [1], [2]]
    assert found.equal(clusters(heaps(), 3))


def test_no_group_is_smaller_than_asked_for() -> None:
    """Even where all rows but one are alike."""
    rows = torch.zeros(12, 2)
    rows[0] = 5.0
    sizes = clusters(rows, 4, least=3).bincount(minlength=4)
    assert sizes.tolist() == [3, 3, 3, 3]
