"""The library of chat templates: what each writes, to the letter, and that forms know them all."""

from __future__ import annotations

import typing

import pytest

from studio.chat_templates import library, mistake_in, template
from studio.node_settings.train import TrainSettings

WRITES_ANY_ROLE = ("chatml", "plain")
PLACELESS = "This template has no place for tools"
WRITES = {  # of: system S, user A, assistant B, user C, and the start of the next answer
    "chatml": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\n"
    "B<|im_end|>\n<|im_start|>user\nC<|im_end|>\n<|im_start|>assistant\n",
    "llama-3": "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user"
    "<|end_header_id|>\n\nA<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nB<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nC<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "llama-2": "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nA [/INST] B </s><s>[INST] C [/INST]",
    "mistral": "<s>[INST] S\n\nA[/INST] B</s>[INST] C[/INST]",
    "mistral-tekken": "<s>[SYSTEM_PROMPT]S[/SYSTEM_PROMPT][INST]A[/INST]B</s>[INST]C[/INST]",
    "gemma": "<s><start_of_turn>user\nS\n\nA<end_of_turn>\n<start_of_turn>model\nB<end_of_turn>\n"
    "<start_of_turn>user\nC<end_of_turn>\n<start_of_turn>model\n",
    "phi-3": "<|system|>\nS<|end|>\n<|user|>\nA<|end|>\n<|assistant|>\nB<|end|>\n<|user|>\nC<|end|>\n"
    "<|assistant|>\n",
    "phi-4": "<|im_start|>system<|im_sep|>S<|im_end|><|im_start|>user<|im_sep|>A<|im_end|><|im_start|>"
    "assistant<|im_sep|>B<|im_end|><|im_start|>user<|im_sep|>C<|im_end|><|im_start|>assistant<|im_sep|>",
    "deepseek": "<s>S<｜User｜>A<｜Assistant｜>B<｜end▁of▁sentence｜><｜User｜>C<｜Assistant｜>",
    "zephyr": "<|system|>\nS</s>\n<|user|>\nA</s>\n<|assistant|>\nB</s>\n<|user|>\nC</s>\n<|assistant|>\n",
    "alpaca": "S\n\n### Instruction:\nA\n\n### Response:\nB</s>\n\n### Instruction:\nC\n\n### Response:\n",
    "vicuna": "S USER: A ASSISTANT: B</s>USER: C ASSISTANT:",
    "plain": "system: S\nuser: A\nassistant: B</s>\nuser: C\nassistant: ",
}
WRITES["qwen-2.5"] = WRITES["qwen-3"] = WRITES["chatml"]
WRITES["deepseek-r1"] = WRITES["deepseek"] + "<think>\n"


def write(name: str, turns: str, ask: bool = False, tools: object = None) -> str:
    """``turns``: one letter of the role and one of the content each."""
    from tests.tiny import make_tiny_tokenizer

    roles = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    tokenizer = make_tiny_tokenizer()
    tokenizer.bos_token, tokenizer.eos_token = "<s>", "</s>"
    messages = [{"role": roles[t[0]], "content": t[1:]} for t in turns.split()]
    return str(
        tokenizer.apply_chat_template(
            messages,
            chat_template=template(name).source,
            tokenize=False,
            tools=tools,
            add_generation_prompt=ask,
        )
    )


@pytest.mark.parametrize("name", [t.id for t in library()])
def test_what_each_template_writes(name: str) -> None:
    assert write(name, "sS uA aB uC", ask=True) == WRITES[name]


def test_system_messages_that_a_family_has_by_itself() -> None:
    assert write("qwen-2.5", "uA", ask=True).startswith(
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>"
    )
    assert write("qwen-3", "uA aB") == (
        "<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nB<|im_end|>\n"
    )
    assert write("deepseek-r1", "uA aB uC aD") == (
        "<s><｜User｜>A<｜Assistant｜>B<｜end▁of▁sentence｜><｜User｜>C<｜Assistant｜><think>\n\n</think>\n\n"
        "D<｜end▁of▁sentence｜>"
    )
    assert write("alpaca", "uA").startswith("Below is an instruction that describes a task.")
    assert write("vicuna", "uA").startswith("A chat between a curious user and")


@pytest.mark.parametrize(
    "name", [t.id for t in library() if not t.tools and t.id not in WRITES_ANY_ROLE]
)
def test_templates_without_a_place_for_tools_refuse_a_tools_turn(name: str) -> None:
    with pytest.raises(Exception, match=PLACELESS):
        write(name, "uA aB t7 aC")


def test_special_tokens_are_named() -> None:
    for info in library():
        written = WRITES[info.id] + info.source
        assert all(t in written for t in info.tokens), info.id
        assert info.title
        assert info.looks


def test_the_form_offers_the_whole_library() -> None:
    choices = typing.get_args(TrainSettings.model_fields["chat_template"].annotation)
    assert choices == ("model", *(t.id for t in library()), "custom")


def test_mistakes_of_writing_are_told_without_rendering() -> None:
    assert mistake_in("{% for m in messages %}") != ""
    assert "line 2" in mistake_in("a\n{{ b + }}")
    assert (
        mistake_in(
            "{% generation %}{{ a }}{% endgeneration %}{% for b in c %}{% break %}{% endfor %}"
        )
        == ""
    )
