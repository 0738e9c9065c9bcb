"""The chat templates of well-known families: what is trained is exactly the answers and their ends.

The templates are written after the published ones, with what makes each of them special: a BOS token,
trimmed contents, a system prompt of its own, blocks of thoughts, an end token after the whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio.errors import StudioError
from studio.training.tokens.encoder import load_tokenizer
from tests.studio.training.steps import Recorder
from tests.studio.training.test_data import messages, row_of, tokenized
from tests.tiny import make_tiny_tokenizer

LLAMA_3 = (
    "{% for m in messages %}{% set content = '<|start_header_id|>' + m['role'] + "
    "'<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
    "{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + m['content'] + ' [/INST]' }}{% elif m['role'] == 'assistant' %}"
    "{{ ' ' + m['content'] | trim + eos_token }}{% else %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
QWEN_2 = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN_3 = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' and "
    "loop.index0 > ns.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PHI_3 = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
LLAMA_2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + m['content'] | trim + ' [/INST]' }}{% else %}"
    "{{ ' ' + m['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)
THINKS_FIRST = QWEN_2.replace("'<|im_start|>assistant\n' }}", "'<|im_start|>assistant\n<think>' }}")

SPECIAL = (
    "<s>",
    "</s>",
    "<bos>",
    "<eos>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|end|>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
)
FAMILIES: dict[str, tuple[str, str, str, str]] = {  # template, BOS, EOS, what an answer becomes
    "Llama 3": (LLAMA_3, "<s>", "<|eot_id|>", "{}<|eot_id|>"),
    "Mistral": (MISTRAL, "<s>", "</s>", " {}</s>"),
    "Gemma": (GEMMA, "<bos>", "<eos>", "{}<end_of_turn>\n"),
    "Qwen 2": (QWEN_2, "", "<|im_end|>", "{}<|im_end|>\n"),
    "Qwen 3": (QWEN_3, "", "<|im_end|>", "<think>\n\n</think>\n\n{}<|im_end|>\n"),
    "Phi 3": (PHI_3, "<s>", "<eos>", "{}<|end|>\n<eos>"),
    "Llama 2": (LLAMA_2, "<s>", "</s>", " {} </s>"),
}
SPLIT = {"Qwen 3", "Phi 3"}  # they write earlier answers differently: one row per answer
ANSWERS = ("It is 4.", "No - and why?")


def family_tokenizer(folder: Path, family: str) -> Any:
    """The tiny tokenizer with the family's template and special tokens, as it is loaded."""
    template, bos, eos, _ = FAMILIES[family]
    tokenizer = make_tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    tokenizer.bos_token, tokenizer.eos_token = bos or None, eos
    tokenizer.chat_template = template
    tokenizer.save_pretrained(str(folder))
    return load_tokenizer(folder)


def trained_texts(tokens: Any, tokenizer: Any) -> list[str]:
    """The text of every run of trained tokens, row after row."""
    found = []
    for number in range(len(tokens.train)):
        ids, labels = row_of(tokens, number)
        assert all(b in (-100, a) for a, b in zip(ids, labels, strict=True))
        piece: list[int] = []
        for label in [*labels, -100]:
            if label != -100:
                piece.append(label)
            elif piece:
                found.append(tokenizer.decode(piece))
                piece = []
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_exactly_the_answers_and_their_ends_are_trained(tmp_path: Path, family: str) -> None:
    tokenizer = family_tokenizer(tmp_path / "model", family)
    turns = messages("u: Two and two? ", f"a:{ANSWERS[0]}", "u:Three?", f"a:{ANSWERS[1]}")
    tokens = tokenized(tmp_path, [{"messages": turns}], tokenizer)
    pattern = FAMILIES[family][3]
    assert trained_texts(tokens, tokenizer) == [pattern.format(a) for a in ANSWERS]
    assert len(tokens.train) == (2 if family in SPLIT else 1)
    bos = tokenizer.bos_token_id
    wanted = 0 if bos is None or family == "Phi 3" else (2 if family == "Llama 2" else 1)
    assert row_of(tokens)[0].count(bos) == wanted


@pytest.mark.parametrize("family", ["Llama 3", "Qwen 2", "Qwen 3", "Phi 3"])
def test_a_system_turn_is_never_trained(tmp_path: Path, family: str) -> None:
    tokenizer = family_tokenizer(tmp_path / "model", family)
    turns = messages("s:Be brief.", "u:Two and two?", "a:4")
    tokens = tokenized(tmp_path, [{"messages": turns}], tokenizer)
    assert trained_texts(tokens, tokenizer) == [FAMILIES[family][3].format("4")]
    assert "Be brief." in tokenizer.decode(row_of(tokens)[0])


@pytest.mark.parametrize("family", ["Mistral", "Gemma"])
def test_a_system_turn_that_a_template_refuses_names_its_line(tmp_path: Path, family: str) -> None:
    tokenizer = family_tokenizer(tmp_path / "model", family)
    with pytest.raises(StudioError, match=r"template rejects rows\.jsonl, line 1"):
        tokenized(tmp_path, [{"messages": messages("s:x", "u:a", "a:b")}], tokenizer)


def test_a_prompt_that_starts_the_thoughts_is_refused(tmp_path: Path) -> None:
    """The question ends in an open block of thoughts that the row's text does not have."""
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = THINKS_FIRST
    with pytest.raises(StudioError) as caught:
        tokenized(tmp_path, [{"messages": messages("u:a", "a:b")}], tokenizer, Recorder())
    assert (caught.value.code, caught.value.field) == ("unstable_template", "chat_template")
    assert "asks for an answer with" in caught.value.sentence
    assert caught.value.hint is not None
    assert "Choose the chat template “" in caught.value.hint
