"""Shares, counts and times read alike wherever they stand."""

from __future__ import annotations

from studio.system.disk import size_text
from studio.system.number_text import counted, duration, percent, short_duration, time_left


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


def test_times() -> None:
    """At most two units, from tenths of a second to days."""
    seconds = (0.34, 9.97, 42, 59.7, 187, 3599.6, 3729, 172_800, 300_000)
    assert [duration(s) for s in seconds] == [
        "0.3 s",
        "10 s",
        "42 s",
        "1 min 00 s",
        "3 min 07 s",
        "1 h 00 min",
        "1 h 02 min",
        "2 days 00 h",
        "3 days 11 h",
    ]
    assert [short_duration(s) for s in (0, 60, 90, 3600)] == ["0 s", "1 min", "1 min 30 s", "1 h"]
    assert [time_left(s) for s in (0.1, 8.4, 187)] == ["almost done", "8 s left", "3 min 07 s left"]
