"""The program's settings file: round trip, damage, wrong values."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.errors import StudioError
from studio.system import paths
from studio.system.settings import AppSettings, load_settings, save_settings, settings_path


def test_no_file_gives_defaults(tmp_path: Path) -> None:
    loaded = load_settings(tmp_path / "settings.toml")
    assert loaded.settings == AppSettings()
    assert loaded.notice == ""
    assert loaded.settings.runs_dir() == paths.runs_dir()


def test_round_trip_keeps_what_a_newer_version_added(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "settings.toml"
    made = AppSettings(theme="dark", runs_folder="/tmp/r", leave_core=False, recent=["/ä b.studio"])
    save_settings(made, path)
    path.write_text('fresh = "new"\n' + path.read_text(encoding="utf-8"), encoding="utf-8")
    loaded = load_settings(path).settings
    assert (loaded.theme, loaded.recent, loaded.runs_dir()) == (
        "dark",
        ["/ä b.studio"],
        Path("/tmp/r"),
    )
    save_settings(loaded, path)
    assert 'fresh = "new"' in path.read_text(encoding="utf-8")


def test_a_damaged_file_is_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("theme = ", encoding="utf-8")
    loaded = load_settings(path)
    assert loaded.settings == AppSettings()
    assert "settings.toml.damaged" in loaded.notice
    assert (tmp_path / "settings.toml.damaged").read_text(encoding="utf-8") == "theme = "
    assert not path.exists()


def test_a_wrong_value_takes_its_default_and_the_rest_stays(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('theme = "pink"\nleave_core = false\n', encoding="utf-8")
    loaded = load_settings(path)
    assert (loaded.settings.theme, loaded.settings.leave_core) == ("system", False)
    assert "theme" in loaded.notice


def test_recent_projects_are_few_and_new_first(tmp_path: Path) -> None:
    settings = AppSettings()
    for number in range(12):
        settings = settings.with_recent(tmp_path / f"{number}.studio")
    settings = settings.with_recent(tmp_path / "5.studio")
    names = [Path(p).stem for p in settings.recent]
    assert names[:3] == ["5", "11", "10"]
    assert len(names) == len(set(names)) == 10


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StudioError, match="could not be saved"):
        save_settings(AppSettings(), tmp_path / "file" / "settings.toml")


def test_the_default_place() -> None:
    assert settings_path() == paths.config_dir() / "settings.toml"
