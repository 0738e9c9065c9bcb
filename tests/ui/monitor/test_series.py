"""Thinning, smoothing and following series: what is drawn must tell the truth."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ui.monitor.curves import Follower
from ui.monitor.decimate import for_screen, min_max, visible
from ui.monitor.smoothing import Smoother, smooth

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400)


def plain_average(values: list[float], factor: float) -> list[float]:
    """The definition, one value at a time."""
    found, average = [], 0.0
    for index, value in enumerate(values):
        average = average * factor + (1 - factor) * value
        found.append(average / (1 - factor ** (index + 1)))
    return found


@given(VALUES, st.integers(1, 60))
def test_thinning_keeps_the_extremes_and_the_order(values: list[float], columns: int) -> None:
    x, y = np.arange(len(values), dtype=float), np.array(values)
    thin_x, thin_y = min_max(x, y, columns)
    assert thin_y.min() == y.min()
    assert thin_y.max() == y.max()
    assert (np.diff(thin_x) >= 0).all()
    assert len(thin_x) <= max(2 * columns + 2, 0) or len(values) <= 2 * columns


def test_a_million_points_become_two_per_column() -> None:
    y = np.random.default_rng(0).normal(size=1_000_000)
    y[345_678] = 99.0
    thin_x, thin_y = min_max(np.arange(1e6), y, 500)
    assert len(thin_x) <= 1002
    assert thin_x[np.argmax(thin_y)] == 345_678


def test_gaps_do_not_hide_their_neighbours() -> None:
    y = np.full(1000, np.nan)
    y[500] = 3.0
    _, thin = min_max(np.arange(1000.0), y, 10)
    assert np.nanmax(thin) == 3.0


def test_only_what_is_in_view_is_drawn() -> None:
    x = np.arange(1000.0)
    assert visible(x, 100, 200) == slice(99, 202)
    shown, _ = for_screen(x, x, 100, 200, 500)
    assert shown[0] == 99
    assert shown[-1] == 201


@given(VALUES, st.sampled_from([0.1, 0.6, 0.9, 0.99]))
def test_smoothing_is_the_moving_average(values: list[float], factor: float) -> None:
    expected = plain_average(values, factor)
    scale = max(1.0, max(abs(v) for v in values))
    assert np.allclose(smooth(np.array(values), factor), expected, atol=1e-6 * scale)


@given(VALUES, VALUES)
def test_smoothing_goes_on_where_it_was(first: list[float], second: list[float]) -> None:
    smoother = Smoother()
    smoother.follow(np.array(first), 0.9)
    found = smoother.follow(np.array(first + second), 0.9)
    scale = max(1.0, max(abs(v) for v in first + second))
    assert np.allclose(found, plain_average(first + second, 0.9), atol=1e-6 * scale)
    again = smoother.follow(np.array(second), 0.5)
    assert np.allclose(again, plain_average(second, 0.5), atol=1e-6 * scale)


def test_smoothing_passes_over_gaps() -> None:
    smoothed = smooth(np.array([1.0, np.nan, 1.0]), 0.5)
    assert np.isnan(smoothed[1])
    assert smoothed[2] == 1.0


def test_a_follower_copies_only_what_is_new() -> None:
    follower, source = Follower(), [1.0, 2.0]
    assert follower.follow(source).tolist() == [1.0, 2.0]
    source += [3.0] * 1000
    assert len(follower.follow(source)) == 1002


def test_a_follower_sees_that_a_list_was_cut() -> None:
    follower, source = Follower(), [1.0, 2.0, 3.0]
    follower.follow(source)
    del source[1:]
    source += [7.0, 8.0, 9.0]
    assert follower.follow(source).tolist() == [1.0, 7.0, 8.0, 9.0]
