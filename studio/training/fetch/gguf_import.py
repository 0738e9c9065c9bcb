"""Converts a GGUF file into a model folder. Run as a program: ``gguf_import FILE FOLDER``.

transformers treats a GGUF base as quantized: it cannot be trained or saved, and takes 15 to 40 s to
load every time. Imported, it is an ordinary bfloat16 model that loads in half a second. Writes only
into the given folder, which the caller commits.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from studio.model.folder_check import tensor_faults

# Special tokens used for padding by convention. The end-of-turn token must not be used, or the model
# would not learn to stop.
PAD_TOKENS = (
    "<|endoftext|>",
    "<pad>",
    "[PAD]",
    "<|pad|>",
    "<|finetune_right_pad_id|>",
    "<|PAD_TOKEN|>",
    "<unk>",
    "<|dummy|>",
)


def tell(**message: Any) -> None:
    """Print one JSON line for the parent process."""
    print(json.dumps(message), flush=True)


def _tell_count(done: int, total: int, unit: str) -> None:
    """Report what was read: the vocabulary is read first, when the weights are asked for."""
    stage = "vocabulary" if unit == "entries" else "weights"
    tell(stage=stage, done=done, total=total, unit=unit)


def choose_pad_token(tokenizer: Any) -> str | None:
    """A pad token other than the end token, or ``None`` if the vocabulary has none."""
    vocabulary = tokenizer.get_vocab()
    return next((t for t in PAD_TOKENS if t in vocabulary and t != tokenizer.eos_token), None)


def mend_tokenizer(tokenizer: Any, longest: int | None) -> None:
    """Set a pad token and a valid maximum length."""
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.pad_token = choose_pad_token(tokenizer) or tokenizer.eos_token
    for key in (
        "is_local",
        "local_files_only",
        "gguf_file",
    ):  # how it was loaded is not its setting
        tokenizer.init_kwargs.pop(key, None)
    if longest and tokenizer.model_max_length > longest:
        tokenizer.model_max_length = longest


def mend_model(model: Any, tokenizer: Any, name: str) -> None:
    """Remove what the config keeps from loading GGUF, and copy the special tokens of the tokenizer."""
    model.hf_quantizer = None
    model.is_quantized = False
    model.quantization_method = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config._name_or_path = name
    model.config.__dict__.pop("_model_name_or_path", None)  # a name from an earlier training
    model.config.pad_token_id = tokenizer.pad_token_id
    generation = model.generation_config
    generation._from_model_config = False
    generation.pad_token_id = tokenizer.pad_token_id
    if generation.eos_token_id is None:
        generation.eos_token_id = tokenizer.eos_token_id
    if generation.bos_token_id is None:
        generation.bos_token_id = tokenizer.bos_token_id


def import_gguf(file: Path, folder: Path) -> None:
    """Write the model and its tokenizer into ``folder`` in bfloat16."""
    tell(stage="start")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    from studio.training.fetch.gguf_reading import reading

    logging.disable_progress_bar()
    torch.set_num_threads(max(1, min(4, torch.get_num_threads())))
    options = {"gguf_file": file.name, "trust_remote_code": False, "local_files_only": True}
    with reading(_tell_count):
        tell(stage="weights")
        model, loaded = AutoModelForCausalLM.from_pretrained(
            str(file.parent), dtype=torch.float32, output_loading_info=True, **options
        )
        for fault in tensor_faults(loaded["missing_keys"], (), {}, str(file)):
            raise ValueError(fault.sentence)  # transformers has filled them with random numbers
        tell(stage="tokenizer")
        tokenizer = AutoTokenizer.from_pretrained(str(file.parent), **options)
    mend_tokenizer(tokenizer, getattr(model.config, "max_position_embeddings", None))
    mend_model(model, tokenizer, file.stem)
    tell(stage="save")
    model.to(torch.bfloat16).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


def main(arguments: list[str]) -> int:
    """Run the program; returns 0, or 1 after printing an ``error`` line."""
    file, folder = map(Path, arguments)
    try:
        import_gguf(file, folder)
    except (ValueError, OSError, KeyError, ImportError, NotImplementedError) as error:
        tell(error=str(error).strip().splitlines()[0] if str(error).strip() else repr(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
