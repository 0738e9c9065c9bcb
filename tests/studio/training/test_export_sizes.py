"""The size that an export needs is known before it starts: no less than the most that is ever on the disk, and little
more. With less room nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio.errors import StudioError
from studio.export_folder import lm_studio
from studio.export_folder.archive import archive_bytes, write_archive
from studio.node_settings.export import ExportSettings
from studio.system.disk import size_text
from studio.training.export import make
from studio.training.export.make import export
from studio.values import AdapterValue, ModelValue
from tests.file_operations import size_of, watched
from tests.small_disk import small_disk
from tests.studio.training.adapters import SHAPE, random_adapter
from tests.studio.training.gguf_models import save_noisy
from tests.studio.training.steps import Recorder, make_context, model_value
from tests.studio.training.test_gguf_quantizer import needs_quantizer

pytestmark = pytest.mark.usefixtures("quiet_transformers")
_MOST = 1.03
"""How much larger an estimate may be, apart from the room for the card."""
CARD = make._CARD_BYTES


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelValue:
    """5 million parameters: the keys of a file are a small part of it."""
    values = {
        **SHAPE,
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 5,
        "num_key_value_heads": 1,
    }
    root = tmp_path_factory.mktemp("size")
    return model_value(save_noisy(root / "model", "LlamaConfig", values), parameters=5_000_000)


@pytest.fixture(scope="module")
def adapter(base: ModelValue, tmp_path_factory: pytest.TempPathFactory) -> AdapterValue:
    """Two ranks: the portable form is larger than the file."""
    ranks = {"down_proj": 24}
    return random_adapter(tmp_path_factory.mktemp("adapter"), base, r=8, rank_pattern=ranks)


def tuned(base: ModelValue, adapter: AdapterValue) -> ModelValue:
    record = {"adapter": adapter.to_json(), "max_logit_difference": 0.0}
    return base.model_copy(update={"merged_from": [record], "base": base})


def measured(
    root: Path, value: Any, monkeypatch: pytest.MonkeyPatch, place: str, **settings: Any
) -> tuple[int, int]:
    """What was estimated, and the most that was on the disk."""
    asked: list[int] = []
    real = make.needed_bytes

    def needed(*arguments: Any, **more: Any) -> int:
        asked.append(real(*arguments, **more))
        return asked[-1]

    monkeypatch.setattr(make, "needed_bytes", needed)
    context = make_context(root / "run", Recorder())
    context.title, context.project_name = "Export", "Size"
    target = root / "made"
    target.mkdir()
    sizes = [0]
    with watched(lambda name: sizes.append(size_of(target))):
        chosen = ExportSettings(check_rows=0, folder=place and str(target / place), **settings)
        export(context, value.to_json(), chosen)
    return asked[0], max(*sizes, size_of(target))


GGUF = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q5_1"]
CASES = {
    "model": ("model", "safetensors", {}),
    "adapter": ("adapter", "safetensors", {}),
    "adapter as trained": ("adapter", "safetensors", {"form": "as_trained"}),
    "gguf": ("model", "gguf", {"quantizations": GGUF}),
    "gguf adapter": ("adapter", "gguf", {"quantizations": ["F32", "F16"]}),
    "ollama": ("model", "ollama", {"quantization": "Q8_0"}),
    "ollama adapter": ("adapter", "ollama", {"quantization": "F16"}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_estimate_is_the_peak_and_less_is_refused(
    case: str,
    base: ModelValue,
    adapter: AdapterValue,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With 5 % less than the size nothing is ever written, and the sentence names what is needed."""
    what, form, settings = CASES[case]
    value = adapter if what == "adapter" else base
    needed, peak = measured(
        tmp_path, value, monkeypatch, "talk", format=form, format_settings=settings
    )
    assert peak <= needed <= _MOST * peak + CARD
    context = make_context(tmp_path / "run", Recorder())
    context.title, context.project_name = "Export", "Size"
    with small_disk(tmp_path / "stick", int(0.95 * peak) // 1024) as stick:
        seen = [0]
        chosen = ExportSettings(
            check_rows=0, folder=str(stick / "talk"), format=form, format_settings=settings
        )
        with (
            watched(lambda name: seen.append(size_of(stick))),
            pytest.raises(StudioError) as caught,
        ):
            export(context, value.to_json(), chosen)
        assert caught.value.code == "disk_full"
        assert f"{size_text(needed)} needed" in str(caught.value)
        assert caught.value.field == "folder"
        assert max(seen) == 0
        assert list(stick.iterdir()) == []


@needs_quantizer
def test_the_estimate_of_several_quantizations(
    base: ModelValue,
    adapter: AdapterValue,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They need no other file meanwhile, such as one in full precision."""
    chosen = {"quantizations": ["Q4_K_M", "Q2_K", "IQ4_XS"], "importance_rows": 4}
    needed, peak = measured(
        tmp_path,
        tuned(base, adapter),
        monkeypatch,
        "talk",
        format="gguf",
        format_settings=chosen,
    )
    left = size_of(tmp_path / "made")
    assert peak <= needed <= _MOST * peak + CARD
    assert peak - left <= CARD


def test_an_adapter_that_is_computed_is_refused_before_it_is_written(
    base: ModelValue, tmp_path: Path
) -> None:
    """The rank of the portable form of a DoRA is known once it has been computed."""
    adapter = random_adapter(tmp_path, base, r=2, use_dora=True)
    settings = {"format": "safetensors", "format_settings": {"max_rank": 64}, "check_rows": 0}
    with small_disk(tmp_path / "stick", 1000) as stick:
        context = make_context(tmp_path / "run", Recorder())
        context.title = "Export"
        with pytest.raises(StudioError) as caught:
            export(context, adapter.to_json(), ExportSettings(folder=str(stick / "a"), **settings))
        assert caught.value.code == "disk_full"
        assert "MiB needed" in str(caught.value)
        assert list(stick.iterdir()) == []


def test_inside_a_run_links_need_no_room(
    base: ModelValue, adapter: AdapterValue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights of a model are linked; those of a portable adapter are written."""
    needed, _ = measured(tmp_path, base, monkeypatch, "", format="safetensors")
    assert needed < 1_000_000
    needed, _ = measured(tmp_path / "b", adapter, monkeypatch, "", format="safetensors")
    folder = tmp_path / "b" / "run" / "step" / "export"
    weights = folder / "adapter_model.safetensors"
    assert weights.stat().st_size < needed < _MOST * size_of(folder) + CARD


def test_the_size_of_an_archive(base: ModelValue, tmp_path: Path) -> None:
    folder = Path(base.path)
    (folder / "README.md").write_text("many words " * 50_000, encoding="utf-8")
    target = tmp_path / "talk.zip"
    sizes = [0]
    with watched(lambda name: sizes.append(size_of(tmp_path))):
        write_archive(folder, target)
    needed = archive_bytes(folder, target)
    assert max(sizes) <= needed <= max(sizes) + 2000
    with small_disk(tmp_path / "stick", int(0.95 * needed) // 1024) as stick:
        with pytest.raises(StudioError) as caught:
            write_archive(folder, stick / "talk.zip")
        assert caught.value.code == "disk_full"
        assert list(stick.iterdir()) == []


def test_a_copy_for_lm_studio_is_refused_before_it_starts(base: ModelValue, tmp_path: Path) -> None:
    file = tmp_path / "talk-F16.gguf"
    file.write_bytes(b"x" * 2_000_000)
    with small_disk(tmp_path / "stick", 1800) as stick:
        with pytest.raises(StudioError) as caught:
            lm_studio.add_model(file, stick)
        assert caught.value.code == "disk_full"
        assert not [p for p in stick.rglob("*") if p.is_file()]
