"""A search for models on the Hugging Face Hub, by name.

The request is made in a child process (``studio.training.fetch.hub_search``), so that it can be ended at once and the
window loads no network library.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from studio.errors import StudioError
from studio.system.children import end_child, module_command, start_child

MODULE = "studio.training.fetch.hub_search"
MOST = 30
_GRACE_S = 2.0


@dataclass(frozen=True)
class HubModel:
    """A model on the Hub; ``None`` for what the Hub does not state. ``fault`` says why it cannot be used."""

    id: str
    parameters: int | None = None
    licence: str | None = None
    chat_template: bool | None = None
    architecture: str | None = None
    bytes_to_download: int | None = None
    gated: bool = False
    downloads: int = 0
    fault: str = ""


def search_hub(
    words: str, started: Callable[[Callable[[], None]], None] | None = None
) -> list[HubModel]:
    """The models whose names contain these words, the most downloaded first. Raises ``StudioError``. ``started``
    receives a function that ends the search from another thread."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = start_child([*module_command(MODULE), words, str(MOST)], errors)
        if started is not None:
            started(process.terminate)
        try:
            assert process.stdout is not None
            said = [line for line in process.stdout if line.startswith("{")]
        finally:
            end_child(process, _GRACE_S)
        answer: Mapping[str, Any] = json.loads(said[-1]) if said else {}
        if "models" in answer:
            return [HubModel(**model) for model in answer["models"]]
        errors.seek(0)
        last = (errors.read().strip().splitlines() or ["no output"])[-1]
    raise StudioError(
        f"The Hub cannot be searched: {answer.get('error') or last}",
        hint="Check the network connection, or choose a model on this machine.",
        code="no_network",
    )
