"""A chat template that loops on one row is ended, with a sentence that names the row."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.errors import StudioError
from studio.training.data.by_number import Item
from studio.training.report.row_facts import facts_of
from studio.training.tokens import bounded as module
from studio.training.tokens.bounded import TookTooLong, bounded
from studio.training.tokens.chat_choice import with_template
from studio.training.tokens.encoder import Encoder
from tests.studio.training.test_data import messages, tokenized
from tests.studio.training.test_data import with_template as own_template
from tests.tiny import make_tiny_tokenizer

LOOPS = "{% for m in messages %}{% if 'again' in m['content'] %}{% for a in range(99999) %}" + (
    "{% for b in range(99999) %}{% endfor %}{% endfor %}{% endif %}{% endfor %}"
)


@pytest.fixture(autouse=True)
def less_patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "PATIENCE_S", 0.5)
    module._ended.clear()
    yield
    module._ended.clear()


def rows(*said: str) -> list[dict[str, Any]]:
    return [{"messages": messages(f"u:{text}", "a:b")} for text in said]


@pytest.mark.parametrize("choice", ["model", "custom"])
def test_a_template_that_loops_on_a_row_is_ended_and_the_row_is_named(
    choice: str, tmp_path: Path
) -> None:
    tokenizer = make_tiny_tokenizer()
    looping = LOOPS + tokenizer.chat_template
    if choice == "model":
        tokenizer = own_template(looping)
    settings = {"chat_template": choice, "custom_template": looping}
    chosen = with_template(tokenizer, settings)  # plain conversations do not loop
    began = time.monotonic()
    with pytest.raises(StudioError) as caught:
        tokenized(tmp_path, rows("a", "b", "say it again", "c"), chosen)
    assert time.monotonic() - began < 10
    assert "rows.jsonl, line 3: it does not come to an end" in caught.value.sentence
    assert caught.value.line == 3


def test_a_report_goes_on_behind_such_rows_and_waits_less_for_the_later_ones() -> None:
    encoder = Encoder(own_template(LOOPS + make_tiny_tokenizer().chat_template), 99)
    stored = [
        {**r, "line": n, "source": "rows.jsonl"} for n, r in enumerate(rows(*["again"] * 4, "a"), 1)
    ]
    items = [Item(n, "train", "rows.jsonl", n, row) for n, row in enumerate(stored, 1)]
    began = time.monotonic()
    found = facts_of("Train", encoder, items)
    assert time.monotonic() - began < 15
    assert ["refused_row" in f.marks for f in found] == [True] * 4 + [False]
    assert "does not come to an end" in found[0].marks["refused_row"]


def test_a_template_that_fails_in_any_way_names_the_row(tmp_path: Path) -> None:
    source = (
        "{% for m in messages %}{% if 1 // (m['content'] | length - 3) %}{% endif %}{% endfor %}"
    )
    with pytest.raises(StudioError, match=r"rows.jsonl, line 2: .*zero") as caught:
        tokenized(
            tmp_path, rows("ab", "abc"), own_template(source + make_tiny_tokenizer().chat_template)
        )
    assert caught.value.line == 2


def test_what_ends_in_time_is_never_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that end about when they would be ended: each gives its result or is ended, and nothing
    reaches what comes behind it, in any thread."""
    monkeypatch.setattr(module, "_LOOK_S", 0.002)
    monkeypatch.setattr(module, "PATIENCE_S", 0.002)
    monkeypatch.setattr(module, "_SHORT_S", 0.002)
    wrong: list[BaseException] = []
    outcomes: set[bool] = set()

    def work(seconds: float) -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pass
        return True

    def many() -> None:
        try:
            for number in range(150):
                try:
                    outcomes.add(bounded(lambda: work(number % 12 / 1000), "t"))  # noqa: B023
                except TookTooLong:
                    outcomes.add(False)
                work(0.001)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=many) for _ in range(2)]
    for thread in threads:
        thread.start()
    many()
    for thread in threads:
        thread.join()
    assert not wrong
    assert outcomes == {True, False}
