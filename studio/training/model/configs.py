"""The files beside the weights of a saved model: configs, tokenizer, and code of the base model.

A model trained with another chat template ends its answers with another token than its base model,
and inference programs read the end tokens from ``generation_config.json``. Existing entries are
kept.
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from studio.export_folder.copy_files import refuse_stray
from studio.model.folder_files import json_or_empty, read_json
from studio.model.trust import may_run_code
from studio.system import busy_files
from studio.system.atomic import write_atomic
from studio.training.tokens.ends import turn_end_id


def write_surroundings(
    base: Path, folder: Path, dtype: str, tokenizer: Any, untied: bool = False
) -> None:
    """Write all files except the weights of a model made from ``base`` and trained with ``tokenizer``."""
    config = merged_config(base, dtype, untied)
    write_atomic(folder / "config.json", config)
    refuse_stray(base, base / "generation_config.json")
    with suppress(FileNotFoundError):
        shutil.copyfile(base / "generation_config.json", folder / "generation_config.json")
    if may_run_code(base):  # in the same folders: trust is given to names and contents
        for code in base.rglob("*.py"):
            refuse_stray(base, code)
            place = folder / code.relative_to(base)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(code, place)
    tokenizer.save_pretrained(str(folder))
    write_stop_token(folder, tokenizer)


def save_loaded(model: Any, folder: Path, max_shard_size: int | str) -> None:
    """Save the weights and the config of a loaded model, without a generation config: ``write_surroundings`` copies
    that of the base. It is repeated while another program uses a file that was just written."""
    busy_files.patiently(lambda: model.save_pretrained(folder, max_shard_size=max_shard_size))
    busy_files.remove(folder / "generation_config.json")


def write_stop_token(folder: Path, tokenizer: Any) -> None:
    """Add the token that ends an answer in the tokenizer's chat template to the model's end tokens."""
    end = turn_end_id(tokenizer)
    if end is None:
        end = tokenizer.eos_token_id
    generation = json_or_empty(folder, "generation_config.json")
    config = json_or_empty(folder, "config.json")
    known = generation.get("eos_token_id", config.get("eos_token_id"))
    ids = known if isinstance(known, list) else [known]
    if end is None or end in ids:
        return
    generation["eos_token_id"] = [*(i for i in ids if i is not None), end]
    text = json.dumps(generation, indent=2) + "\n"
    write_atomic(folder / "generation_config.json", text)


def merged_config(base: Path, dtype: str, untied: bool) -> str:
    """The text of ``config.json`` for the merged model."""
    config = read_json(base, "config.json")
    for name in ("torch_dtype", "quantization_config"):
        config.pop(name, None)
    config["dtype"] = dtype
    if untied:
        config["tie_word_embeddings"] = False
    return json.dumps(config, indent=2) + "\n"  # ASCII: some readers use the locale's encoding
