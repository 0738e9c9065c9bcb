"""A tiny random Llama with a tokenizer and a chat template, built in code in well under a second.

Why: tests of training, merging and export need a real model folder that plain transformers loads,
and no download. It must not be used to judge quality: it knows nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PAD_ID, START_ID, END_ID = 0, 1, 2
VOCABULARY = 264  # three special tokens, 256 bytes, and a few unused rows as real models have


def make_tiny_tokenizer(
    merges: Sequence[tuple[str, str]] = (), pre_tokenizer: Any = None, **options: Any
) -> Any:
    """One token per byte, and one for each of the merges; pad is ``<|endoftext|>`` and the end of a turn is
    ``<|im_end|>``. The pre-tokenizer is that of GPT-2 unless another one is given."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*SPECIAL_TOKENS, *alphabet, *(left + right for left, right in merges)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges), **options))
    core.pre_tokenizer = pre_tokenizer or pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|endoftext|>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_tiny_model(
    folder: Path, *, seed: int = 0, layers: int = 2, hidden: int = 32, dtype: str = "float32"
) -> Path:
    """Save the model and its tokenizer into ``folder`` and return it. Embeddings are tied."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=PAD_ID,
        bos_token_id=START_ID,
        eos_token_id=END_ID,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).to(getattr(torch, dtype))
    model.save_pretrained(folder)
    make_tiny_tokenizer().save_pretrained(folder)
    return folder


def write_rows(path: Path, count: int = 24) -> Path:
    """A JSONL file of short, ragged prompt and completion rows."""
    things = ("cat", "oak", "bread", "hammer", "river", "nurse")
    kinds = ("animal", "plant", "food", "artifact", "location", "person")
    with path.open("w", encoding="utf-8") as file:
        for i in range(count):
            prompt = f"What is {'a very ' * (i % 3)}{things[i % 6]}?"
            file.write(json.dumps({"prompt": prompt, "completion": kinds[i % 6]}) + "\n")
    return path


def make_tiny_gpt2(folder: Path, positions: int = 96) -> Path:
    """A tiny random GPT-2: it has learned its positions and can read no more tokens than these."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=positions,
        n_embd=32,
        n_layer=2,
        n_head=4,
        bos_token_id=START_ID,
        eos_token_id=END_ID,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    make_tiny_tokenizer().save_pretrained(folder)
    return folder
