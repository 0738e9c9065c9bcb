"""An export that is killed leaves the earlier one or the new one under its name, and what it leaves beside it is
removed by the next."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from studio.values import ModelValue
from tests.studio.training.adapters import tiny_base
from tests.studio.training.gguf_models import make_bpe_tokenizer

ROOT = Path(__file__).resolve().parents[3]
pytestmark = [
    pytest.mark.usefixtures("quiet_transformers"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.slow(seconds=60, order=0),
]


def states(root: Path, value: ModelValue, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """What was there after each kill, and after the export that followed it."""
    request = {
        "place": str(root / "place"),
        "value": value.to_json(),
        "settings": settings,
        "writes": 8,
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.studio.training.killed_exports"],
        input=json.dumps(request),
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("STATES ")]
    assert lines, done.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads(lines[-1].removeprefix("STATES "))
    return found


@pytest.mark.parametrize("form", ["safetensors", "gguf"])
def test_a_kill_at_any_file_operation(tmp_path: Path, form: str) -> None:
    base = tiny_base(tmp_path)
    make_bpe_tokenizer().save_pretrained(base.path)
    found = states(tmp_path, base, {"format": form})
    assert {"rename", "mkdir", "fsync"} <= {state["call"] for state in found}
    assert {state["call"] for state in found} & {"write", "tofile"}
    for state in found:
        assert state["status"] == -9, state
        assert state["whole"] is not False, f"a half export under its name: {state}"
        if (
            state["whole"] is None
        ):  # between two renames: the earlier one is restored by the next export
            assert any(name.endswith("-old") for name in state["names"]), state
        assert state["again"] == 0, state
        assert state["after"] == ["talk"], state
        assert state["whole_after"], state
