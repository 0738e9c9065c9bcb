"""A model that transformers does not know and that brings its own code: a tiny Llama by another name."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tiny import make_tiny_model

CONFIGURATION = """\
from pathlib import Path
from transformers import LlamaConfig

(Path.home() / "the-code-ran").write_text("yes")


class TinyTalkConfig(LlamaConfig):
    model_type = "tinytalk"
"""
MODELING = """\
from transformers import LlamaForCausalLM

from .configuration_tinytalk import TinyTalkConfig


class TinyTalkForCausalLM(LlamaForCausalLM):
    config_class = TinyTalkConfig
"""


def make_model_with_code(folder: Path) -> Path:
    """A model folder that loads only when its code runs; running it leaves a file in the home."""
    make_tiny_model(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {
        "model_type": "tinytalk",
        "architectures": ["TinyTalkForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_tinytalk.TinyTalkConfig",
            "AutoModelForCausalLM": "modeling_tinytalk.TinyTalkForCausalLM",
        },
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "configuration_tinytalk.py").write_text(CONFIGURATION, encoding="utf-8")
    (folder / "modeling_tinytalk.py").write_text(MODELING, encoding="utf-8")
    return folder
