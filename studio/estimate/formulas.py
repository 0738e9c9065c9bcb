"""How many parameters each LoRA method trains in one layer, by formula.

Each formula is one that the method's paper gives for a matrix of ``width_in`` × ``width_out``;
``tests/studio/estimate`` holds them to PEFT. For a method without a formula the helper process
counts the parameters on the meta device.
"""

from __future__ import annotations

from collections.abc import Callable

from studio.estimate.kept import Settings
from studio.model.shapes import Linear

Count = Callable[[Linear, int, Settings], int]


def _low_rank(m: Linear, r: int, settings: Settings) -> int:
    """A is r × in, B is out × r (Hu et al., 2021). Stacked experts have a pair each, and PEFT widens
    the rank of a weight in which several matrices are joined."""
    del settings
    return r * m.fused * m.experts * (m.width_in + m.width_out)


def _dora(m: Linear, r: int, settings: Settings) -> int:
    """LoRA and a length per output (Liu et al., 2024)."""
    return _low_rank(m, r, settings) + m.width_out


def _adalora(m: Linear, r: int, settings: Settings) -> int:
    """P Λ Q with a trained diagonal, at the rank that it begins with (Zhang et al., 2023). PEFT counts
    its note of the rank too, which is kept as it is here."""
    del settings
    return r * (m.width_in + m.width_out) + r + 1


def _vera(m: Linear, r: int, settings: Settings) -> int:
    """Two vectors beside shared frozen matrices of their own width (Kopiczko et al., 2023)."""
    from studio.adapters.vera import VeraSettings

    del r
    return int(VeraSettings.model_validate(settings).width) + m.width_out


def _loha(m: Linear, r: int, settings: Settings) -> int:
    """The Hadamard product of two low-rank products (Hyeon-Woo et al., 2021)."""
    del settings
    return 2 * r * (m.width_in + m.width_out)


def _lokr(m: Linear, r: int, settings: Settings) -> int:
    """A Kronecker product; the larger factor is low-rank where that is smaller (Yeh et al., 2023)."""
    factor = int(settings.get("factor") or -1)
    rows, columns = _factors(m.width_out, factor), _factors(m.width_in, factor)
    both = settings.get("decompose_both") and r < max(rows[0], columns[0]) / 2
    first = r * (rows[0] + columns[0]) if both else rows[0] * columns[0]
    low = r < max(rows[1], columns[1]) / 2
    return first + (r * (rows[1] + columns[1]) if low else rows[1] * columns[1])


def _factors(width: int, factor: int) -> tuple[int, int]:
    """The two factors nearest to each other, the smaller first; a ``factor`` above 0 that divides
    the width is taken."""
    if factor > 0 and width % factor == 0:
        return min(factor, width // factor), max(factor, width // factor)
    limit = width if factor == -1 else factor
    small, large = 1, width
    length = small + large
    while small < large:
        new = small + 1
        while width % new != 0:
            new += 1
        if new + width // new > length or new > limit:
            break
        small, large = new, width // new
        length = small + large
    return min(small, large), max(small, large)


def _ia3(m: Linear, r: int, settings: Settings) -> int:
    """One factor per output, or per input of the feed-forward's last layer (Liu et al., 2022)."""
    from studio.adapters.ia3 import INPUT_SCALED  # one list for both

    del r, settings
    return m.width_in if m.name.rpartition(".")[2] in INPUT_SCALED else m.width_out


def _outputs(m: Linear, r: int, settings: Settings) -> int:
    """A number for each output."""
    del r, settings
    return m.width_out


def _of_b(m: Linear, r: int, settings: Settings) -> int:
    """r numbers for each output."""
    del settings
    return r * m.width_out


def _of_a(m: Linear, r: int, settings: Settings) -> int:
    """r numbers for each input."""
    del settings
    return r * m.width_in


def _coefficients(m: Linear, r: int, settings: Settings) -> int:
    """The number of coefficients in the settings (Gao et al., 2024)."""
    from studio.adapters.research.fourierft import FourierftSettings

    del m, r
    return int(FourierftSettings.model_validate(settings).frequencies)


def _wavelets(m: Linear, r: int, settings: Settings) -> int:
    """The number of coefficients in the settings (Bilican et al., 2025)."""
    from studio.adapters.research.waveft import WaveftSettings

    del m, r
    return int(WaveftSettings.model_validate(settings).frequencies)


def _numbers(m: Linear, r: int, settings: Settings) -> int:
    """The number of parameters in the settings (TinyLoRA, 2026)."""
    from studio.adapters.research.tinylora import TinyloraSettings

    del m, r
    return int(TinyloraSettings.model_validate(settings).numbers)


def _circulant(m: Linear, r: int, settings: Settings) -> int:
    """One row of each block (Chen et al., 2024)."""
    from studio.adapters.research.c3a import C3aSettings

    del r
    return m.width_in * m.width_out // int(C3aSettings.model_validate(settings).block_size)


def _drawn(m: Linear, r: int, settings: Settings) -> int:
    """LoRA, a spread for each rank, and a weight for each sample (MonteCLoRA, 2024)."""
    from studio.adapters.research.monteclora import MontecloraSettings

    samples = MontecloraSettings.model_validate(settings).samples
    return r * (m.width_in + m.width_out) + r + samples


def _parts(m: Linear, r: int, settings: Settings) -> int:
    """A small pair for each part of the outputs, inside one basis of the layer (AdaMSS, 2025)."""
    from studio.adapters.research.adamss import AdamssSettings

    del r
    own = AdamssSettings.model_validate(settings)
    basis = min(own.directions, m.width_in, m.width_out)
    return own.rank * (own.parts * basis + m.width_out)


def _weakest(m: Linear, r: int, settings: Settings) -> int:
    """U, S and V of the singular directions that are not kept (OSF, 2025)."""
    from studio.adapters.research.osf import OsfSettings, trained_directions

    del r
    kept = OsfSettings.model_validate(settings).kept
    return trained_directions(m.width_in, m.width_out, kept) * (m.width_in + m.width_out + 1)


def _entries(m: Linear, r: int, settings: Settings) -> int:
    """A share of the entries, and a LoRA beside them where it is wanted (Super-Tuning, 2026)."""
    from studio.adapters.research.supertuning import SupertuningSettings, trained_entries

    own = SupertuningSettings.model_validate(settings)
    beside = r * (m.width_in + m.width_out) if own.with_lora else 0
    return trained_entries(m.width_in, m.width_out, own.percent) + beside


def _block_diagonal(m: Linear, r: int, settings: Settings) -> int:
    """LoRA with only the blocks of A, or of B, where the layer's kind asks for it (Wang et al., 2025)."""
    from studio.adapters.research.bdlora import BdloraSettings, by_rows

    blocks = BdloraSettings.model_validate(settings).blocks
    a, b = r * m.width_in, r * m.width_out
    return a // blocks + b if by_rows(m.name) else a + b // blocks


def _tweakers(m: Linear, r: int, settings: Settings) -> int:
    """A and B of width out, and pairs of square layers between them (Zhong et al., 2024)."""
    from studio.adapters.research.peanut import PeanutSettings

    return 2 * r * m.width_out + 2 * PeanutSettings.model_validate(settings).depth * r * r


def _injection(m: Linear, r: int, settings: Settings) -> int:
    """P is out × r and R is r × in, at most of the outputs' rank (Kumar et al., 2025)."""
    del settings
    return min(r, m.width_out) * (m.width_in + m.width_out)


def _paths(m: Linear, r: int, settings: Settings) -> int:
    """A and B of the weight; C, D and E only where the layer has a bias (Chavan et al., 2023)."""
    from studio.adapters.research.glora import GloraSettings

    own = GloraSettings.model_validate(settings)
    weight = {"lora": r * (m.width_in + m.width_out), "vector": m.width_out, "constant": 1}
    coupling = {"lora": r * (m.width_in + 1), "vector": m.width_in, "none": 0}
    bias = {"vector": m.width_out, "constant": 1, "none": 0}
    of_bias = coupling[own.coupling] + 2 * bias[own.bias] if m.bias else 0
    return 2 * weight[own.weight] + of_bias


FORMULAS: dict[str, Count] = {
    "lora": _low_rank,
    "rslora": _low_rank,
    "dora": _dora,
    "lora_plus": _low_rank,
    "pissa": _low_rank,
    "olora": _low_rank,
    "eva": _low_rank,
    "corda": _low_rank,
    "loftq": _low_rank,
    "lora_ga": _low_rank,
    "riemannian": _low_rank,
    "alora": _low_rank,
    "velora": _low_rank,
    "shira": _low_rank,
    "gralora": _low_rank,
    "hira": _low_rank,
    "miss": _of_b,
    "hra": _of_a,  # not LoRA-FA and MiCA: half of their matrices is frozen
    "fourierft": _coefficients,
    "waveft": _wavelets,
    "tinylora": _numbers,
    "c3a": _circulant,
    "beft": _outputs,
    "ia3": _ia3,
    "adalora": _adalora,
    "vera": _vera,
    "loha": _loha,
    "lokr": _lokr,
    "peanut": _tweakers,
    "deft": _injection,
    "glora": _paths,
    "osf": _weakest,
    "supertuning": _entries,
    "bdlora": _block_diagonal,
    "monteclora": _drawn,
    "adamss": _parts,
}
"Methods with a formula. The IDs are those of ``studio/adapters``."

PLAIN = frozenset(name for name, formula in FORMULAS.items() if formula is _low_rank) - {"velora"}
"Methods whose step is that of LoRA: a formula exists for their activations only. VeLoRA has the "
"parameters\nof LoRA, but compresses its stored inputs."
