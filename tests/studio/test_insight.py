"""What figures of layers advise."""

from __future__ import annotations

from studio.runs.insight import Insight, ModuleUse, advice, insight_from, parts


def modules(used: int, r: int = 16, norms: list[float] | None = None) -> tuple[ModuleUse, ...]:
    sizes = norms or [1.0] * 10
    return tuple(
        ModuleUse(f"model.layers.{i}.self_attn.q_proj", n, n / 10, used, r)
        for i, n in enumerate(sizes)
    )


def test_json_and_names() -> None:
    """Events carry it exactly; names fall into layer and part."""
    insight = Insight(7, modules(5))
    assert insight_from(insight.to_json()) == insight
    assert (insight.modules[3].layer, insight.modules[3].part) == (3, "self_attn.q_proj")
    assert parts(insight.modules) == ["self_attn.q_proj"]
    assert ModuleUse("score", 1, None, 1, 4).layer is None


def test_a_roomy_rank_is_told() -> None:
    """Five of sixteen directions: eight would do."""
    sentences = " ".join(advice(Insight(60, modules(5))))
    assert "5 of 16 singular directions" in sentences
    assert "A rank of 8 would preserve" in sentences


def test_a_full_rank_is_told() -> None:
    """All directions in use: more may help; and never both advices."""
    sentences = " ".join(advice(Insight(60, modules(16))))
    assert "a higher rank may learn more" in sentences
    assert "would preserve" not in sentences


def test_places_that_stand_out() -> None:
    """A layer that moved much more, and layers that did not."""
    sentences = " ".join(advice(Insight(60, modules(10, norms=[1.0] * 7 + [9.0, 0.001, 0.002]))))
    assert "9 times the median, is in model.layers.7.self_attn.q_proj" in sentences
    assert "2 of 10 layers hardly changed" in sentences


def test_nothing_is_advised_before_anything_moved() -> None:
    """B is zero at the start."""
    assert advice(Insight(0, modules(0, norms=[0.0] * 10))) == []
