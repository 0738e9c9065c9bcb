"""The starter project as it ships, at full length: it learns, and its results are what they say.

Slow (about five minutes on two cores), so it runs with ``python3 -m tests -m slow``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.studio_cli import ROOT, Ran, studio
from tests.studio.training.llama_cpp import ask, needs_llama_cpp

pytestmark = [pytest.mark.slow(seconds=380, order=0), pytest.mark.timeout(5400)]

FAIR_BAR = 0.75  # what any seed reaches; the base model answers nothing exactly


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The starter project, run once."""
    runs = tmp_path_factory.mktemp("starter") / "runs"
    project = ROOT / "assets" / "starter.studio"
    return studio("run", project, "--runs", runs, "--json", timeout=5000)


def test_it_learns_what_it_is_shown(run: Ran) -> None:
    assert run.code == 0, run.err[-2000:]
    (evaluation,) = run.of("Evaluation")
    exact = evaluation["measures"]["exact_match"]
    assert exact["before"] <= 0.05
    assert exact["after"] >= FAIR_BAR


@needs_llama_cpp
def test_the_gguf_file_is_proven_and_runs(run: Ran) -> None:
    """The gate is green in its own rows, and llama.cpp answers held-out questions itself."""
    (check,) = run.of("ExportChecked")
    assert (check["title"], check["reader"], check["verdict"]) == ("Q8_0", "llama.cpp", "green")
    assert check["gain_kept"] >= 0.9
    assert check["match_exported"] >= FAIR_BAR
    (file,) = run.saved("gguf")[-1].glob("*-Q8_0.gguf")
    assert check["bytes"] == file.stat().st_size < 150_000_000
    rows = (ROOT / "assets" / "data" / "wordnet8_test.jsonl").read_text(encoding="utf-8")
    messages = [json.loads(line)["messages"] for line in rows.splitlines()[::12]]
    prompts = [_prompt(run, m[:-1]) for m in messages]
    asked = [{"prompt": p, "n_predict": 12, "temperature": -1} for p in prompts]
    answers = [a["choices"][0]["text"].strip() for a in ask(file, *asked)]
    right = [a == m[-1]["content"].strip() for a, m in zip(answers, messages, strict=True)]
    assert sum(right) >= 0.6 * len(right), answers


def _prompt(run: Ran, messages: list[dict[str, str]]) -> str:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(run.saved("merged_model")[-1])
    return str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))


def test_test_rows_are_not_training_rows() -> None:
    data = ROOT / "assets" / "data"
    train = (data / "wordnet8_train.jsonl").read_text(encoding="utf-8").splitlines()
    test = (data / "wordnet8_test.jsonl").read_text(encoding="utf-8").splitlines()
    assert not set(train) & set(test)


def test_plain_libraries_agree_with_the_studio(run: Ran) -> None:
    """The merged model is PEFT's merge in float32, rounded to the precision of the base's files."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def ask(model: torch.nn.Module, tokenizer: object) -> tuple[list[torch.Tensor], list[str]]:
        rows = (ROOT / "assets" / "data" / "wordnet8_test.jsonl").read_text(encoding="utf-8")
        logits, texts = [], []
        for line in rows.splitlines()[::60]:
            inputs = tokenizer.apply_chat_template(
                json.loads(line)["messages"][:-1],
                add_generation_prompt=True,
                return_tensors="pt",
                return_dict=True,
            )
            with torch.no_grad():
                logits.append(model(**inputs).logits[0])
                out = model.generate(**inputs, max_new_tokens=12, do_sample=False)
            texts.append(tokenizer.decode(out[0, inputs["input_ids"].shape[1] :]))
        return logits, texts

    base_path: Path = run.saved("base_model")[0]
    merged_path: Path = run.saved("merged_model")[-1]
    tokenizer = AutoTokenizer.from_pretrained(merged_path)
    base = AutoModelForCausalLM.from_pretrained(base_path, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, run.saved("adapter")[0])
    plain = adapted.merge_and_unload().to(torch.bfloat16).float().eval()
    merged = AutoModelForCausalLM.from_pretrained(merged_path, dtype=torch.float32).eval()
    assert json.loads((merged_path / "config.json").read_text("utf-8"))["dtype"] == "bfloat16"
    wanted, found = plain.state_dict(), merged.state_dict()
    assert wanted.keys() == found.keys()
    for name, tensor in wanted.items():  # the last bit depends on the order of sums
        torch.testing.assert_close(found[name], tensor, rtol=2**-7, atol=1e-6, msg=name)
    logits, texts = ask(plain, tokenizer)
    merged_logits, merged_texts = ask(merged, tokenizer)
    assert texts == merged_texts
    worst = max(float((a - b).abs().max()) for a, b in zip(logits, merged_logits, strict=True))
    assert worst < 0.1, worst
