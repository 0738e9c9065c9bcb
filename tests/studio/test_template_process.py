"""The process that renders templates is ended when one takes too long, whatever it is doing at that moment."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from studio.chat_templates.process import HelperEnded, HelperProcess

ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture
def helper() -> Iterator[HelperProcess]:
    made = HelperProcess()
    yield made
    made.close()


def ask(helper: HelperProcess, source: str, seconds: float) -> Any:
    request = {"sources": [source], "row": {}, "seconds": seconds, "largest": 1_000_000}
    return helper.exchange(json.dumps(request))


@pytest.mark.parametrize(
    "source",
    [
        ENDLESS,
        "{{ lipsum(n=10**7) }}",  # grows while it is interrupted
        "{{ range(99999)|map('string')|join|list|sort|join|length }}" * 200,  # mostly in C
        "{% macro f(n) %}{% for i in range(99999) %}{{ f(n) if n < 0 }}{% endfor %}{% endmacro %}"
        + "{{ f(1) }}" * 999,
    ],
    ids=["loops", "growing text", "functions in C", "macro"],
)
def test_it_is_known_that_it_took_too_long(helper: HelperProcess, source: str) -> None:
    """And not that the process ended for an unknown reason. The next template is rendered."""
    for _ in range(3):
        with pytest.raises(HelperEnded) as caught:
            ask(helper, source, 0.2)
        assert caught.value.slow
    assert ask(helper, "{{ 1 + 1 }}", 30)["texts"] == ["2"]


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="there is no timer of this kind")
def test_a_program_that_ignores_the_signal_passes_that_on_without_effect(
    helper: HelperProcess,
) -> None:
    """An ignored signal stays ignored in the processes that a program starts."""
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    try:
        with pytest.raises(HelperEnded) as caught:
            ask(helper, ENDLESS, 0.2)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert caught.value.slow


def test_the_time_between_requests_does_not_count(helper: HelperProcess) -> None:
    """The timer stops with the reply: an idle process goes on."""
    ask(helper, "a", 0.05)
    process = helper._process
    assert process is not None
    with pytest.raises(Exception, match="timed out"):
        process.wait(timeout=0.5)
    assert ask(helper, "b", 30)["texts"] == ["b"]
    assert helper._process is process
