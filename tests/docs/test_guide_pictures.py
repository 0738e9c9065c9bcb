"""The pictures of the guide: each is made by the script, used on a page, described in words, and small."""

from __future__ import annotations

import re

import pytest
from PySide6.QtGui import QImageReader

from tests.docs.makers import DOCS, load_maker
from ui.dialogs.guide import PICTURE_SCALE, pages

maker = load_maker("make_guide_pictures")
NAMES = [name for names in maker.MAKERS.values() for name in names]
FILES = [f"{name}-{theme}.png" for name in NAMES for theme in maker.THEMES]
USED = {
    page: re.findall(
        r"!\[([^\]]*)\]\(pictures/([^)]+)\)",
        (DOCS / "guide" / page).read_text(encoding="utf-8"),
    )
    for _, page in pages()
}
WITHOUT = {
    "gguf.md",
    "hub.md",
    "index.md",
    "lm-studio.md",
    "ollama.md",
    "other-programs.md",
    "questions.md",
    "terminal.md",
    "troubleshooting.md",
}
"""Pages about words and commands."""
MOST_BYTES, MOST_BYTES_TOGETHER = 120_000, 3_000_000


def test_the_script_makes_all_pictures_and_no_others() -> None:
    assert sorted(FILES) == sorted(path.name for path in maker.PICTURES.iterdir())
    assert len(NAMES) == len(set(NAMES))


def test_each_picture_is_on_one_page_in_its_light_form() -> None:
    used = [file for found in USED.values() for _, file in found]
    assert sorted(used) == sorted(f"{name}-light.png" for name in NAMES)


def test_pages_have_pictures_and_pictures_have_words() -> None:
    assert {page for page, found in USED.items() if not found} == WITHOUT
    for found in USED.values():
        for words, file in found:
            assert len(words.split()) >= 6, file


@pytest.mark.parametrize("file", FILES)
def test_a_picture_is_small(file: str) -> None:
    path = maker.PICTURES / file
    assert path.stat().st_size <= MOST_BYTES
    size = QImageReader(str(path)).size()
    assert 280 * PICTURE_SCALE <= size.width() <= 1000 * PICTURE_SCALE
    assert PICTURE_SCALE == maker.SCALE


def test_all_pictures_together_are_small() -> None:
    assert sum(path.stat().st_size for path in maker.PICTURES.iterdir()) <= MOST_BYTES_TOGETHER


@pytest.mark.parametrize("name", maker.TRAININGS)
def test_a_recorded_run_names_no_folder_of_a_machine(name: str) -> None:
    for file in maker.KEPT:
        text = (maker.RECORDED / name / file).read_text(encoding="utf-8")
        assert not re.search(r'"(/|[A-Z]:)[\w/\\]', text), file
