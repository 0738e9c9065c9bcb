"""Whatever the data report says blocks, the run refuses, and the other way round: over every kind of data of
docs/data.md and several chat templates.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio import chat_templates
from studio.errors import StudioError
from studio.node_settings.dataset import DatasetSettings
from studio.training.data.rows import prepare_rows
from studio.training.tokens.encoder import tokenize_dataset
from tests.docs.makers import load_maker
from tests.studio.training.steps import Recorder, make_context
from tests.studio.training.test_report import report_on
from tests.tiny import make_tiny_tokenizer

EXAMPLES = [e for examples in load_maker("make_data").EXAMPLES.values() for e in examples]
TEMPLATES = ("tiny", "qwen-3", "qwen-2.5", "llama-3", "phi-3", "gemma", "mistral", "plain")
LENGTH = 4096


def tokenizer_with(template: str) -> Any:
    tokenizer = make_tiny_tokenizer()
    if template != "tiny":
        tokenizer.chat_template = chat_templates.template(template).source
    return tokenizer


def refusal_of_run(path: Path, settings: DatasetSettings, tokenizer: Any) -> str:
    """Why the run is refused; empty if it is not."""
    context = make_context(path.parent / "run", Recorder())
    try:
        value = prepare_rows(context, settings)
        folder = path.parent / "tokens"
        tokenize_dataset(
            context, value, tokenizer, max_length=LENGTH, train_on="answers", folder=folder
        )
    except StudioError as error:
        return error.sentence
    return ""


def blocked_by_report(path: Path, settings: dict[str, Any], tokenizer: Any) -> str:
    """What the report says blocks a run; empty if nothing does."""
    try:
        report = report_on(path, max_length=LENGTH, tokenizer=tokenizer, **settings)
    except StudioError as error:
        return error.sentence
    return " ".join(f.sentence for f in report.errors)


@pytest.mark.parametrize("template", TEMPLATES)
def test_report_and_run_agree_on_what_blocks(template: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_with(template)
    blocked, differences = 0, []
    for number, example in enumerate(EXAMPLES):
        folder = tmp_path / str(number)
        (folder / "run").mkdir(parents=True)
        path = folder / "data.jsonl"
        path.write_text("".join(json.dumps(r) + "\n" for r in example.rows), encoding="utf-8")
        settings = {"split_mode": "none", **example.settings}
        refusal = refusal_of_run(path, DatasetSettings(source=str(path), **settings), tokenizer)
        said = blocked_by_report(path, settings, tokenizer)
        blocked += bool(refusal)
        if bool(refusal) != bool(said):
            differences.append((example.title, refusal, said))
    assert differences == []
    assert 5 < blocked < len(EXAMPLES) - 5
