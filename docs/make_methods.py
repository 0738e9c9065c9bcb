"""Writes docs/methods.md: what each LoRA method is for, and where it trains, from the registry.

Why: one source. The columns are what the methods declare, the node's checks refuse by the same
declarations, and the matrix test trains every method wherever they allow it. `python
docs/make_methods.py` writes the page, and a test fails while it is out of date.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "methods.md"
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from studio.graph.node_type import Variant  # noqa: E402
from studio.graph.registry import Registry, load_registry  # noqa: E402
from studio.variants.lora_method import LoraMethod, rate_text  # noqa: E402

HEAD = """\
# LoRA methods

Made by `docs/make_methods.py` from the methods' own declarations; do not edit it by hand.
`tests/studio/training/test_method_matrix.py` trains every method in every precision that this table
allows: the loss falls, no weight of the base changes, the saved adapter gives the same logits on a fresh
base, and so does the merged model. What the table does not allow is refused before a run, with the
reason. The settings of each method are in [nodes.md](nodes.md).

- **Learning rate**: the usual one for a model of 7 B parameters, and the useful range. The recipe proposes
  from it; the Train node warns when the rate lies far outside. With a tuned learning rate nine variants of
  LoRA were within 1-2 % of plain LoRA (arXiv:2602.04998), each at a rate of its own.
- **Research methods**: those with little evidence beyond their own paper.
- **16 and 32 bits**: a base in float32, bfloat16 or float16.
- **4 bits, 8 bits**: a base quantized by bitsandbytes to NF4 or FP4, or to int8.
- **Merge**: *by layer* needs the memory of one layer, *whole* that of the model.
- **Conv1D**: layers that store their weights transposed, as GPT-2's do. **Experts**: those of a mixture.
- Every method resumes after a stop with the same numbers as without one
  (`tests/studio/training/test_method_resume.py`).
"""
NOT_OFFERED = """\
## Not offered, and why

PEFT 0.21 has more methods. These were tried and left out:

| Method | What was seen |
| --- | --- |
| QALoRA | on any base but GPTQ it is plain LoRA without a word; GPTQ bases need \
the packages gptqmodel and optimum, which this program does not bring |
| KaSA | it cuts the base: the loss begins at 10.8 instead of 3.8; on 4 bits it is plain LoRA |
| trainable tokens alone | a setting beside every kind of LoRA instead: Trainable tokens in the LoRA node |
| PVeRA | learns only at rates where the loss that is shown is that of its own noise \
(4.9 to 7.4, while the mean learns from 4.9 to 3.8), and is no number at a little more; VeRA learns \
faster at every rate tried |
| Lily | its parts are mixed by the mean over all tokens of a batch, later ones \
too: token by token the logits differ from those of the complete text by half their size, and rows change each other |
| FRoD | of its factors U and V only V is saved; U is computed again from the base, and on another machine or \
with other threads it no longer belongs to V: the logits differ by up to 2.6 |
| X-LoRA | the reloaded adapter gives other logits |
| CPT | the loss is not a number |
| layer replication | the merged model gives other logits |
| LoRA on an embedding that is tied to the head | the merged model gives other logits; train it fully |
| prompt methods, Poly, Shadow | no low-rank change of weights, and no merge |
"""
_SAVED = {True: "LoRA of rank 2 r", False: "as trained"}


def page(registry: Registry) -> str:
    """The whole page as Markdown."""
    variants = registry.choices("adapter")
    lines = [
        HEAD,
        *_section("Methods", [v for v in variants if not v.payload.research]),
        *_section("Research methods", [v for v in variants if v.payload.research]),
        NOT_OFFERED.rstrip(),
    ]
    return "\n".join(lines) + "\n"


def _section(title: str, variants: list[Variant]) -> list[str]:
    """The table of a group of methods, and what each is for."""
    return [
        f"## {title}",
        "",
        "| Method | Paper | Learning rate | 16 and 32 bits | 4 bits | 8 bits | Merge | Conv1D | Experts "
        "| Saved as |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_row(v) for v in variants),
        "",
        "When to use which:",
        "",
        *(f"- **{v.title}** (`{v.id}`): {v.help}" for v in variants),
        "",
    ]


def _row(variant: Variant) -> str:
    method: LoraMethod = variant.payload
    cells = [
        f"{variant.title} (`{variant.id}`)",
        method.paper,
        _rates(method),
        _full(method),
        _yes(method.trains_on("nf4")),
        _yes(method.trains_on("int8")),
        _merge(method),
        _yes(method.transposed),
        _yes(method.experts or method.own_layers),
        _saved(method),
    ]
    return f"| {' | '.join(cells)} |"


def _full(method: LoraMethod) -> str:
    if method.only_quantized:
        return "no"
    return "yes" if len(method.dtypes) == 3 else " and ".join(method.dtypes)


def _rates(method: LoraMethod) -> str:
    if method.learning_rates is None:
        return "not known"
    low, usual, high = map(rate_text, method.learning_rates)
    return f"{usual} ({low} to {high})"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _merge(method: LoraMethod) -> str:
    if method.cannot_merge:
        return "no"
    return "whole" if method.merge_in_memory else "by layer"


def _saved(method: LoraMethod) -> str:
    return method.saved_as or _SAVED[method.starts_from_base]


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(load_registry()), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
