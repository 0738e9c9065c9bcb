"""The data of the templates is what its script writes."""

from __future__ import annotations

import pytest

from tests.docs.makers import load_maker

FILES = load_maker("make_template_data").files()


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_up_to_date(name: str) -> None:
    maker = load_maker("make_template_data")
    written = (maker.FOLDER / name).read_bytes().decode("utf-8")
    assert written == FILES[name], "run: python docs/make_template_data.py"


def test_nothing_else_lies_there() -> None:
    folder = load_maker("make_template_data").FOLDER
    assert {p.name for p in folder.iterdir()} == {*FILES, "README.md"}


def test_training_and_test_sentences_differ() -> None:
    maker = load_maker("make_template_data")
    for train, test in maker.TICKETS.values():
        assert not set(train) & set(test)
    assert not set(maker.ORDERS[0]) & set(maker.ORDERS[1])
    asked = {r["question"] for r in maker.ferry_questions(True)}
    assert asked.isdisjoint(r["question"] for r in maker.ferry_questions(False))
