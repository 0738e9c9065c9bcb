"""How many rows of each data set go into a mix. Computes with numbers only and reads no rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from studio.node_settings.mix import MixSettings
from studio.system.number_text import quantity


@dataclass(frozen=True)
class Draw:
    """Take ``rows`` of the ``there`` rows of the data set at ``port``; a larger ``rows`` repeats
    them.

    ``notes`` are sentences about settings that could not be met.
    """

    port: str
    there: int
    rows: int
    notes: tuple[str, ...] = ()


def draws(there: Mapping[str, int], settings: MixSettings, side: str) -> list[Draw]:
    """What is drawn from each data set for one split (``train`` or ``validation``)."""
    if settings.mode == "weights":
        return _by_weights(there, settings, side)
    if settings.mode == "counts" and side == "train":
        return [_counted(p, n, getattr(settings, f"count_{p}")) for p, n in there.items()]
    return [Draw(p, n, n) for p, n in there.items()]


def _counted(port: str, there: int, wanted: int) -> Draw:
    if not wanted or wanted <= there:
        return Draw(port, there, wanted or there)
    note = f"dataset {port.upper()} has {quantity(there, 'training row')}, fewer than the requested {wanted}."
    return Draw(port, there, there, (note,))


def _by_weights(there: Mapping[str, int], settings: MixSettings, side: str) -> list[Draw]:
    """The number of rows of each data set, in the ratio of the weights.

    Data sets without rows in this split are skipped.
    """
    weights = {p: getattr(settings, f"weight_{p}") for p in there}
    used = {p: w for p, w in weights.items() if w > 0 and there[p]}
    if not used:
        return [Draw(p, n, 0) for p, n in there.items()]
    sizes = [there[p] / w for p, w in used.items()]  # available rows per unit of weight
    repeat = settings.fit == "repeat" and side == "train"
    unit = max(sizes) if repeat else min(sizes)
    most = settings.max_repeats if repeat else 1
    drawn = []
    for port, count in there.items():
        wanted = max(1, round(used[port] * unit)) if port in used else 0
        rows = min(wanted, count * most)
        drawn.append(Draw(port, count, rows, _capped(port, wanted, rows, count, side, repeat)))
    return drawn


def _capped(
    port: str, wanted: int, rows: int, there: int, side: str, repeat: bool
) -> tuple[str, ...]:
    if rows == wanted or not repeat or side != "train":
        return ()
    return (
        f"dataset {port.upper()} would be repeated {wanted / there:.1f} times to reach "
        f"its weight; it is repeated {quantity(rows // there, 'time')}, so its share is smaller.",
    )
