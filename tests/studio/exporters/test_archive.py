"""Archives of exports: the same bytes for the same files, and nothing left after a stop."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from studio.errors import StudioError
from studio.export_folder import archive
from studio.export_folder.archive import archive_name, files_with_paths, write_archive


def export_in(root: Path, name: str) -> Path:
    folder = root / name
    (folder / "additional_chat_templates").mkdir(parents=True)
    (folder / "README.md").write_text("# Card\n" * 200, encoding="utf-8")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 20)
    (folder / "additional_chat_templates" / "tool.jinja").write_text("{{ x }}", encoding="utf-8")
    return folder


def test_two_copies_of_an_export_give_the_same_archive(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    one = write_archive(export_in(tmp_path, "one"), tmp_path / "a" / "Tone.zip")
    other = export_in(tmp_path, "other")
    os.utime(other / "README.md", (1e9, 1e9))
    (other / "README.md").chmod(0o600)
    (tmp_path / "b").mkdir()
    two = write_archive(other, tmp_path / "b" / "Tone.zip")
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as found:
        assert found.testzip() is None
        assert found.namelist() == [
            "Tone/README.md",
            "Tone/additional_chat_templates/tool.jinja",
            "Tone/model.safetensors",
        ]
        assert found.read("Tone/model.safetensors") == (other / "model.safetensors").read_bytes()
        assert found.getinfo("Tone/model.safetensors").compress_type == zipfile.ZIP_STORED
        assert found.getinfo("Tone/README.md").compress_size < 200
    assert str(tmp_path).encode() not in one.read_bytes()


def test_a_stop_leaves_nothing_and_keeps_an_earlier_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_BLOCK", 1000)
    folder = export_in(tmp_path, "one")
    target = tmp_path / "Tone.zip"
    target.write_bytes(b"earlier")

    def stop(done: int, total: int) -> None:
        assert total == sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        if done > 3000:
            raise StudioError("stopped")

    with pytest.raises(StudioError, match="stopped"):
        write_archive(folder, target, stop)
    assert target.read_bytes() == b"earlier"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["Tone.zip", "one"]
    write_archive(folder, target)
    assert zipfile.is_zipfile(target)
    with pytest.raises(StudioError, match="does not exist any more"):
        write_archive(tmp_path / "gone", target)


def test_files_that_name_this_computer_are_found(tmp_path: Path) -> None:
    folder = export_in(tmp_path, "one")
    home = tmp_path / "home" / "ann"
    assert files_with_paths(folder, home) == []
    (folder / "adapter_config.json").write_text(f'{{"base": "{home}/model"}}', encoding="utf-8")
    assert files_with_paths(folder, home) == ["adapter_config.json"]


@pytest.mark.parametrize(
    ("title", "name"), [("Support tone", "Support-tone"), ("../x", "x"), ("", "model")]
)
def test_the_name_of_an_archive(title: str, name: str) -> None:
    assert archive_name(title) == name
