"""Received text as it is shown: in problems, errors and notices, which the window and the terminal share."""

from __future__ import annotations

import pytest

from studio.errors import Problem, StudioError
from studio.shown_text import line, plain, sentence, short

ODD = (
    "\x1b[31m",
    "\x00",
    "\r",
    "\x7f",
    "\x9b",
    "\u202e",
    "\u2066",
    "\u2028",
    "\ufeff",
    "\udcff",
    "\n",
)


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_problems_and_errors_show_no_control_characters(text: str) -> None:
    """In the sentence and in the hint, also behind the title of a node."""
    problem = Problem(f"a “{text}” b", hint=f"c {text} d")
    error = StudioError(f"a “{text}” b", hint=f"c {text} d")
    error.put_title("Train")
    for shown in (problem.sentence, problem.hint, error.sentence, error.hint, str(error)):
        assert shown.isprintable()
        assert text not in shown
    assert error.problem().sentence == error.sentence


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "naïve\u00a0% … “x”",
        "漢字",
        "עברית",
        "\u0646\u0645\u06cc\u200c\u062e",
        "👩\u200d🔬",
        "so\u00adft",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert plain(text) == line(text) == text
    assert Problem(text).sentence == str(StudioError(text)) == text


def test_long_quotes_are_truncated_and_the_rest_stays() -> None:
    """The end of a sentence says what is wrong with the value."""
    problem = Problem(f"Data: the file “{'x' * 10_000}” does not exist in “{'y' * 10_000}”.")
    assert len(problem.sentence) < 600
    assert problem.sentence.startswith("Data: the file “xxx")
    assert "xxx” does not exist in “yyy" in problem.sentence
    assert problem.sentence.endswith("yyy”.")


def test_a_long_sentence_keeps_its_beginning_and_end() -> None:
    shown = StudioError("begin " + "x" * 1_000_000 + " end").sentence
    assert len(shown) <= 1500
    assert shown.startswith("begin x")
    assert shown.endswith("x end")


def test_shown_text_stays_the_same_when_it_is_shown_again() -> None:
    """An error travels from a helper process to the window."""
    for text in (f"a “{'x' * 5000}” b\x1b", "y" * 5000):
        assert sentence(sentence(text)) == sentence(text)
    assert short("z" * 300) == short(short("z" * 300))
