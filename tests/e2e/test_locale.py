"""A run on a machine whose locale is no UTF-8, as on Windows: cp1252 and ISO-8859-1, without Python's UTF-8 mode.

Our own modules raise an error for every text that is opened in the encoding of the locale; data and the name of the
base model contain letters that the encoding has, and letters that it lacks.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from studio.training.export.adapter import name_base
from studio.values import AdaptedModelValue, AdapterValue, ModelValue
from tests.e2e.studio_cli import ROOT, command, write_project
from tests.timing import WAIT_S
from tests.tiny import make_tiny_model

OURS = r"(studio|bootstrap|main|__main__|ui|workers)\b"
SITE = f"""
import warnings
warnings.filterwarnings("error", category=EncodingWarning, module=r"{OURS}")
"""
ENCODINGS = ["CP1252", "ISO-8859-1"]


@pytest.fixture(params=ENCODINGS)
def locale(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The environment of a process in this encoding."""
    encoding = str(request.param)
    tool = shutil.which("localedef")
    name = f"en_US.{encoding}"
    if tool is None:
        pytest.skip("localedef is not installed")
    made = subprocess.run(
        [tool, "-i", "en_US", "-f", encoding, str(tmp_path / name)], capture_output=True
    )
    if not (tmp_path / name).is_dir():
        pytest.skip(f"the locale could not be made: {made.stderr.decode(errors='replace')}")
    (tmp_path / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONIOENCODING", "LANG")}
    return {
        **inherited,
        "LOCPATH": str(tmp_path),
        "LC_ALL": name,
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONWARNDEFAULTENCODING": "1",
        "PYTHONPATH": str(tmp_path),
        "LORA_STUDIO_HOME": str(tmp_path / "home"),
        "OMP_NUM_THREADS": "1",
    }


def _studio(locale: dict[str, str], *arguments: object) -> str:
    done = subprocess.run(
        command(*arguments), env=locale, cwd=ROOT, capture_output=True, timeout=WAIT_S
    )
    text = (done.stdout + done.stderr).decode("latin-1")
    assert done.returncode == 0, text
    return text


def test_a_run_in_a_locale_that_is_no_utf8(locale: dict[str, str], tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "model")
    talks = [[_said("user", f"say é→{n} 日本"), _said("assistant", f"{n} ü")] for n in range(24)]
    lines = [json.dumps({"messages": talk}, ensure_ascii=False) for talk in talks]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    file = write_project(
        tmp_path / "talk.studio", "model", tmp_path / "rows.jsonl", train={"max_steps": 2}
    )
    assert "ready to run" in _studio(locale, "check", file)
    assert "say é" in _studio(locale, "tokens", file)
    if locale["LC_ALL"].endswith(ENCODINGS[0]):  # a training takes half a minute: once is enough
        assert "finished in" in _studio(locale, "run", file, "--runs", tmp_path / "runs")
        configs = list((tmp_path / "runs").rglob("adapter_config.json"))
        assert configs
        assert all(config.read_bytes().isascii() for config in configs)


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _with_only(kind: Any, **values: Any) -> Any:
    """A value with only the fields that a function needs."""
    return kind.model_construct(**values)


def test_peft_reads_the_path_of_a_base_in_the_folder_of_a_user_with_umlauts(
    locale: dict[str, str], tmp_path: Path
) -> None:
    """`base_model_name_or_path` as Windows has it; PEFT opens the file without an encoding."""
    import peft

    peft.LoraConfig(r=2).save_pretrained(str(tmp_path))
    base = "C:\\Users\\Jürgen Łukasz\\model"
    model = _with_only(AdaptedModelValue, model=_with_only(ModelValue, path=base, source=base))
    name_base(tmp_path / "adapter_config.json", _with_only(AdapterValue, model=model))
    script = (
        "import sys, peft; config = peft.PeftConfig.from_pretrained(sys.argv[1])\n"
        "sys.stdout.buffer.write(config.base_model_name_or_path.encode())"
    )
    python = command()[0]
    done = subprocess.run(
        [python, "-c", script, str(tmp_path)],
        env={**locale, "PYTHONPATH": ""},
        capture_output=True,
        timeout=WAIT_S,
    )
    assert done.stdout.decode("utf-8") == base, done.stderr.decode("latin-1")
