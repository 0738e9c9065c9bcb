"""Shares and counts read alike wherever they stand."""

from __future__ import annotations

from studio.system.disk import size_text
from studio.system.number_text import counted, percent


def test_shares() -> None:
    """Whole per cent from ten on; below, two digits, so that nothing small is hidden."""
    shares = (0.86, 0.995, 1.0, 0.098, 0.02, 0.004, 0.0)
    assert [percent(s) for s in shares] == [
        "86 %",
        "100 %",
        "100 %",
        "9.8 %",
        "2 %",
        "0.4 %",
        "0 %",
    ]


def test_counts() -> None:
    """As people say them."""
    assert [counted(n) for n in (135e6, 1.24e9, 7.24e9, 70e9, 900)] == [
        "135 M",
        "1.2 B",
        "7.2 B",
        "70 B",
        "900",
    ]
    assert [counted(n, 3) for n in (4_884_480, 134_515_008)] == ["4.88 M", "135 M"]


def test_sizes() -> None:
    """In binary units, as their names say."""
    sizes = (1000, 1024, 2048 * 1024, 2.4 * 2**30)
    assert [size_text(n) for n in sizes] == ["1000 bytes", "1 KiB", "2 MiB", "2.4 GiB"]
