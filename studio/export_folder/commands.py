"""The commands that run an export in other programs, as they can be copied into a terminal.

Paths are quoted for the shell of the system: POSIX shells, or PowerShell and cmd on Windows.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.export_folder.modelfile import MODELFILE
from studio.export_folder.readers import vllm_rank
from studio.model.folder_files import json_or_empty
from studio.model.mlx_adapter import is_mlx

WINDOWS = os.name == "nt"
_MODELS = ("merged_model", "tuned_model", "base_model")


@dataclass(frozen=True)
class Command:
    """``program`` is what it runs in; ``arguments`` are one command line."""

    program: str
    arguments: tuple[str, ...]

    def line(self, windows: bool = WINDOWS) -> str:
        """The command line, quoted."""
        return quoted(self.arguments, windows)


def quoted(arguments: Sequence[str], windows: bool = WINDOWS) -> str:
    """A command line that a shell splits into these arguments."""
    if windows:
        return " ".join(_for_windows(a) for a in arguments)
    return shlex.join(arguments)


def _for_windows(argument: str) -> str:
    """An argument in the quotation marks that both cmd and PowerShell take."""
    plain = subprocess.list2cmdline([argument])
    special = set("&|<>^()%!,;=`'$@{}")
    return f'"{argument}"' if plain == argument and special & set(argument) else plain


def commands(kind: str, folder: Path) -> list[Command]:
    """The commands for an exported artifact of this kind; empty for others, and for folders that are missing."""
    if kind in _MODELS:
        return _model(folder)
    if kind == "adapter":
        return _adapter(folder)
    if kind == "ollama_folder":
        return _ollama(folder) + _gguf(folder)
    if kind in ("gguf", "adapter_gguf"):
        return _gguf(folder)
    return []


def _model(folder: Path) -> list[Command]:
    place = str(folder)
    found = [
        Command("vLLM", ("vllm", "serve", place)),
        Command(
            "text-generation-webui",
            ("python", "server.py", "--model-dir", str(folder.parent), "--model", folder.name),
        ),
    ]
    if not json_or_empty(folder, "lora-studio.json").get(
        "quantization"
    ):  # MLX has formats of its own
        found.append(Command("MLX", ("mlx_lm.generate", "--model", place, "--prompt", "Hello")))
    return found


def _adapter(folder: Path) -> list[Command]:
    config = json_or_empty(folder, "adapter_config.json")
    if is_mlx(folder):
        model = str(config.get("model") or "BASE_MODEL")
        own = ("--model", model, "--adapter-path", str(folder), "--prompt", "Hello")
        return [Command("MLX", ("mlx_lm.generate", *own))]
    base = str(config.get("base_model_name_or_path") or "BASE_MODEL")
    beside = folder / base
    if beside.is_dir():  # relative to the adapter, and a command is run from anywhere
        base = str(beside.resolve())
        place: tuple[str, ...] = ("--model-dir", str(Path(base).parent), "--model", Path(base).name)
    else:
        place = ("--model", base.replace("/", "_"))  # where its download-model.py puts it
    lora = ("--lora-dir", str(folder.parent), "--lora", folder.name)
    found = [Command("text-generation-webui", ("python", "server.py", *place, *lora))]
    loads = _loads(folder).get("vllm", True)
    pattern = config.get("rank_pattern")
    ranks = [config.get("r"), *(pattern.values() if isinstance(pattern, dict) else ())]
    rank = vllm_rank(max((r for r in ranks if isinstance(r, int)), default=1))
    if loads is not False and rank is not None:
        serve = ("vllm", "serve", base, "--enable-lora", "--max-lora-rank", str(rank))
        found.insert(0, Command("vLLM", (*serve, "--lora-modules", f"{folder.name}={folder}")))
    return found


def _ollama(folder: Path) -> list[Command]:
    name = ollama_name(folder)
    return [
        Command("Ollama (create)", ("ollama", "create", name, "-f", str(folder / MODELFILE))),
        Command("Ollama (run)", ("ollama", "run", name)),
    ]


def ollama_name(folder: Path) -> str:
    """The name of the model of an Ollama folder."""
    return str(json_or_empty(folder, "lora-studio.json").get("ollama_name") or "my-model")


def gguf_files(folder: Path) -> list[Path]:
    """The GGUF files of an export, without adapters."""
    return [p for p in sorted(folder.glob("*.gguf")) if not p.stem.endswith("-LoRA")]


def complete_models(folder: Path) -> list[Path]:
    """The GGUF files of an export that need no adapter: none, if an adapter lies beside its base model."""
    models = gguf_files(folder)
    return models if len(models) == len(list(folder.glob("*.gguf"))) else []


def _gguf(folder: Path) -> list[Command]:
    models = gguf_files(folder)
    adapters = [p for p in sorted(folder.glob("*.gguf")) if p not in models]
    if adapters:
        base = str(models[0]) if models else "BASE_MODEL.gguf"
        return [
            Command("llama.cpp", ("llama-server", "-m", base, "--lora", str(p))) for p in adapters
        ]
    several = len(models) > 1
    return [
        Command(f"llama.cpp, {p.name}" if several else "llama.cpp", ("llama-server", "-m", str(p)))
        for p in models
    ]


def _loads(folder: Path) -> dict[str, Any]:
    """Which programs load an adapter, by the manifest of its export; empty if it does not say so."""
    found = json_or_empty(folder, "lora-studio.json").get("loads")
    return found if isinstance(found, dict) else {}
