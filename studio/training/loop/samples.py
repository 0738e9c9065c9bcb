"""Samples: the model's answers to a fixed list of prompts during training.

A falling loss does not show what was learned; answers do. Sampling does not affect the training:
random number generators and the model's mode are restored, and running out of memory only skips
samples.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, StoppingCriteriaList

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.runs.cadence import MOST_PROMPTS
from studio.training.answer.generate import EachToken, end_ids, left_padded, new_tokens
from studio.training.answer.questions import questions_of
from studio.training.loop.state import TrainingState
from studio.training.model.load import free_memory
from studio.training.model.out_of_memory import is_out_of_memory
from studio.training.saved.snapshot import read_random, restore_random
from studio.training.tokens.chat import TemplateRefused, render
from studio.training.tokens.limits import learned_positions
from studio.values import DatasetValue

if TYPE_CHECKING:
    from studio.node_settings.train import TrainSettings

MOST_LETTERS = 4000
_AT_ONCE = 16


@dataclass(frozen=True)
class Prompt:
    """A prompt as shown and as token ids, and the reference answer if there is one."""

    shown: str
    ids: list[int]
    expected: str = ""


@dataclass(frozen=True)
class Answer:
    """A generated answer; ``cut`` if it reached the token limit."""

    text: str
    tokens: int
    seconds: float
    cut: bool


def sampler_of(
    context: StepContext,
    state: TrainingState,
    settings: TrainSettings,
    dataset: DatasetValue,
    tokenizer: Any,
    pad_id: int,
) -> Callable[[int, dict[str, Any] | None], None]:
    """The function that generates samples; raises ``StudioError`` for prompts that the template refuses."""
    prompts = [_asked(context, line, tokenizer) for line in _lines(settings.sample_prompts)]
    if settings.sample_rows and dataset.validation_rows:
        questions = questions_of(context, dataset, tokenizer, settings.sample_rows, settings.bos)
        prompts += [Prompt(q.shown, q.ids, q.expected) for q in questions]
    if len(prompts) > MOST_PROMPTS:
        context.notice(f"Only the first {MOST_PROMPTS} of {len(prompts)} prompts are answered.")
    prompts = _distinct(prompts[:MOST_PROMPTS])
    return Sampler(context, state, settings, tokenizer, pad_id, prompts)


def _distinct(prompts: list[Prompt]) -> list[Prompt]:
    """The prompts; repeated questions are numbered, because several conversations may contain the same one."""
    found: dict[str, Prompt] = {}
    for prompt in prompts:
        words, count = prompt.shown[:MOST_LETTERS], 1
        while words in found:
            count += 1
            words = f"{prompt.shown[:MOST_LETTERS]} ({count})"
        found[words] = dataclasses.replace(prompt, shown=words)
    return list(found.values())


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _asked(context: StepContext, question: str, tokenizer: Any) -> Prompt:
    try:
        text = render(tokenizer, [{"role": "user", "content": question}], ask=True)
    except TemplateRefused as error:
        raise StudioError(
            f"the chat template of the model rejects the prompt “{question[:60]}”: {error}.",
            field="sample_prompts",
            code="template_refused",
        ) from error
    return Prompt(question, tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


class Sampler:
    """Generates answers with the model in ``state``."""

    def __init__(
        self,
        context: StepContext,
        state: TrainingState,
        settings: TrainSettings,
        tokenizer: Any,
        pad_id: int,
        prompts: list[Prompt],
    ) -> None:
        self.context, self.state, self.settings = context, state, settings
        self.tokenizer, self.pad_id = tokenizer, pad_id
        self.limit = learned_positions(Path(state.tuning.adapted.model.path))
        self.prompts = self._short_enough(prompts)
        self.at_once = _AT_ONCE
        self.off = False

    def __call__(self, step: int, command: dict[str, Any] | None) -> None:
        """Answer the list of prompts, or the prompts of a command, with the weights after ``step``."""
        prompts = self._wanted(command)
        if self.off or not prompts:
            if command is not None and not command.get("prompts"):
                self.context.notice(
                    "There is no prompt to answer.", "Add prompts in the Train node.", "info"
                )
            return
        self.context.phase("sample", "Generating samples")
        random_state = read_random()
        model = self.state.tuning.model
        training = model.training
        try:
            self._answer_all(step, prompts)
        finally:
            model.train(training)
            restore_random(random_state)
        self.context.emit("Phase", phase="train", title="Training")

    def _wanted(self, command: dict[str, Any] | None) -> list[Prompt]:
        own = (command or {}).get("prompts")
        if not isinstance(own, list) or not own:
            return self.prompts
        lines = [line for text in own for line in _lines(str(text))]
        try:
            asked = [_asked(self.context, line, self.tokenizer) for line in lines[:MOST_PROMPTS]]
        except StudioError as error:  # a prompt sent by the user must not end the training
            self.context.notice(f"{self.context.title}: {error.sentence}", error.hint)
            return []
        return self._short_enough(_distinct(asked))

    def _short_enough(self, prompts: list[Prompt]) -> list[Prompt]:
        """The prompts that leave room for an answer; a notice names the others."""
        fit = [p for p in prompts if new_tokens([p.ids], 1, self.limit) > 0]
        if len(fit) < len(prompts):
            self.context.notice(
                f"{len(prompts) - len(fit)} of {len(prompts)} prompts exceed the context length "
                f"of the model ({self.limit} tokens) and are skipped.",
                "Shorten them.",
            )
        return fit

    def _answer_all(self, step: int, prompts: Sequence[Prompt]) -> None:
        torch.manual_seed(self.settings.seed)
        done = 0
        while done < len(prompts) and not self.off:
            part = prompts[done : done + self.at_once]
            answers = self._careful(part)
            for i, (prompt, answer) in enumerate(zip(part, answers, strict=False)):
                self._tell(step, done + i, prompt, answer)
            done += len(answers)
            self.context.progress("sample", done, len(prompts), "prompts")

    def _careful(self, part: Sequence[Prompt]) -> list[Answer]:
        """The answers; none when memory ran out, after which fewer are generated at once."""
        try:
            return self._answers(part)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        free_memory()
        self.off = self.at_once == 1
        self.at_once = max(1, min(self.at_once, len(part)) // 2)
        if self.off:
            self.context.notice(
                "There is not enough memory to generate samples; no further samples are generated.",
                "Lower “Maximum new tokens” in the Train node.",
            )
        return []

    @torch.no_grad()
    def _answers(self, part: Sequence[Prompt]) -> list[Answer]:
        model, settings = self.state.tuning.model, self.settings
        model.eval()
        began = time.perf_counter()
        rows = [p.ids for p in part]
        longest = new_tokens(rows, settings.sample_max_tokens, self.limit)
        batch = left_padded(rows, self.pad_id, model.device)
        with self.state.accelerator.autocast():
            out = model.generate(
                **batch,
                generation_config=self._config(longest),
                stopping_criteria=StoppingCriteriaList([EachToken(self.context.check)]),
            )
        seconds = (time.perf_counter() - began) / len(part)
        ends = set(end_ids(model, self.tokenizer))
        return [
            self._read(row, ends, longest, seconds)
            for row in out[:, batch["input_ids"].shape[1] :].tolist()
        ]

    def _config(self, longest: int) -> GenerationConfig:
        model, settings = self.state.tuning.model, self.settings
        drawn: dict[str, Any] = {"do_sample": False}
        if settings.sample_temperature:
            drawn = {
                "do_sample": True,
                "temperature": settings.sample_temperature,
                "top_k": 0,
                "top_p": 1.0,
            }
        return GenerationConfig(
            max_new_tokens=longest,
            use_cache=True,
            pad_token_id=self.pad_id,
            eos_token_id=end_ids(model, self.tokenizer),
            **drawn,
        )

    def _read(self, new: list[int], ends: set[int], limit: int, seconds: float) -> Answer:
        length = next((i for i, token in enumerate(new) if token in ends), len(new))
        text = str(self.tokenizer.decode(new[:length], skip_special_tokens=True))
        return Answer(text, length, seconds, cut=length == limit)

    def _tell(self, step: int, index: int, prompt: Prompt, answer: Answer) -> None:
        more = {"expected": prompt.expected[:MOST_LETTERS]} if prompt.expected else {}
        self.context.emit(
            "Sample",
            step=step,
            index=index,
            prompt=prompt.shown,
            text=answer.text[:MOST_LETTERS],
            tokens=answer.tokens,
            seconds=round(answer.seconds, 3),
            cut=answer.cut,
            **more,
        )
