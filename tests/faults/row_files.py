"""Files of rows of which one, in line 5, is not like the others.

Three good rows and a blank line stand before it, so that its line is not its number (4).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from studio.node_settings.dataset import DatasetSettings

LINE = 5
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def said(role: Any, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def talk(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"messages": list(messages), **more}


ASK, TELL = said("user", "a"), said("assistant", "b")
CHOICES = ["ice", "sand"]
GOOD: dict[str, dict[str, Any]] = {
    "messages": talk(ASK, TELL),
    "sharegpt": {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
    "instruction": {"instruction": "a", "output": "b"},
    "prompt_completion": {"prompt": "a", "completion": "b"},
    "question_answer": {"question": "q", "choices": CHOICES, "answer": "A"},
    "classification": {"text": "a", "label": "joy"},
    "preference": {"prompt": "a", "chosen": "b", "rejected": "c"},
    "kto": {"prompt": "a", "completion": "b", "label": True},
    "text": {"text": "a"},
    "custom": {"prompt": "a", "completion": "b"},
}


def settings_of(format_id: str, name: str, own: dict[str, Any]) -> DatasetSettings:
    return DatasetSettings(
        source=name, format=format_id, format_settings=own, validation_fraction=0.0
    )


def write(folder: Path, format_id: str, row: dict[str, Any]) -> str:
    good = json.dumps(GOOD[format_id])
    path = folder / "rows.jsonl"
    path.write_text(f"{good}\n{good}\n\n{good}\n{json.dumps(row)}\n{good}\n", encoding="utf-8")
    return path.name
