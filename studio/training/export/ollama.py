"""Writes an Ollama folder: GGUF files, and a Modelfile with the chat template as a template of Ollama.

The GGUF files are those of the GGUF export. What Ollama does differently from the chat template is said in the log.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from studio.chat_templates.turns import Message, NotFixed, Turns, find_turns, go_template
from studio.export_folder.modelfile import (
    MODELFILE,
    Modelfile,
    commands,
    model_name,
    sampling,
    stop_words,
)
from studio.graph.context import StepContext
from studio.model.folder_files import json_or_empty
from studio.node_settings.export import GgufSettings, OllamaSettings
from studio.training.export import gguf
from studio.training.tokens.chat import TemplateRefused, load_tokenizer, render, starts_with_bos
from studio.training.tokens.ends import special_texts
from studio.values import AdapterValue, ModelValue
from studio.variants.exporter import Exportable, Readable, Written

_MOST_CONTEXT = 8192
_READS = re.compile(r"\b(strftime_now|tools|enable_thinking|reasoning_content)\b|</think>")


def needed_bytes(value: Exportable, settings: OllamaSettings) -> int:
    """The size of the files that will be written. Raises ``StudioError`` for what cannot be."""
    return gguf.needed_bytes(value, _gguf(settings)) + _base_bytes(value, settings)


def _base_bytes(value: Exportable, settings: OllamaSettings) -> int:
    if isinstance(value, AdapterValue) and not settings.base.strip():
        return gguf.needed_bytes(value.model.model, _gguf(settings))
    return 0


def _gguf(settings: OllamaSettings) -> GgufSettings:
    return GgufSettings(quantizations=[settings.quantization], max_rank=settings.max_rank)


def write_ollama(
    context: StepContext, value: Exportable, settings: OllamaSettings, folder: Path
) -> Written:
    """Write the folder."""
    name = settings.name or model_name(context.project_name)
    made = gguf.write_gguf(context, value, _gguf(settings), folder, _base_bytes(value, settings))
    file = f"./{_file_of(made)}"
    model, adapter, base = file, "", None
    if isinstance(value, AdapterValue):
        adapter, model = file, settings.base.strip()
        if not model:
            base = _write_base(context, value.model.model, settings, folder)
            model = f"./{_file_of(base)}"
    tokenizer = load_tokenizer(value.path)
    turns = _turns(context, tokenizer)
    config = json_or_empty(Path(_model_of(value).path), "config.json")
    stated = json_or_empty(Path(value.path), "generation_config.json")
    stops = (
        stop_words(turns.after_answer, turns.before_user, special_texts(tokenizer)) if turns else []
    )
    parameters: list[tuple[str, float | int | str]] = [("stop", word) for word in stops]
    parameters += sampling(stated)
    parameters.append(("num_ctx", _context_length(settings, config)))
    text = Modelfile(
        model,
        adapter,
        go_template(turns) if turns else "",
        settings.system.strip(),
        parameters,
        [
            f"{context.project_name or 'Model'}, made with LoRA Studio. In this folder: {commands(name)[0]}",
            "FROM, TEMPLATE, SYSTEM and PARAMETER: docs.ollama.com/modelfile",
        ],
    ).text()
    (folder / MODELFILE).write_text(text, encoding="utf-8", newline="\n")
    _tell(context, name, stated, model if adapter and base is None else "")
    card = [("name in Ollama", name), ("chat template", _shown(turns)), *made.card]
    card += [*base.card] if base else []
    return Written(
        tuple(card),
        {**made.manifest, "ollama_name": name, "template": turns is not None},
        "\n".join(commands(name)),
        _readable(made, base, settings.quantization),
    )


def _readable(made: Written, base: Written | None, quantization: str) -> tuple[Readable, ...]:
    """An adapter is read back on the base model that lies beside it, as Ollama runs it."""
    if base is None:
        return made.readable
    title = f"{quantization} base with adapter"
    return tuple(replace(part, title=title, base=_file_of(base)) for part in made.readable)


def _file_of(made: Written) -> str:
    return made.readable[0].path


def _model_of(value: Exportable) -> ModelValue:
    return value.model.model if isinstance(value, AdapterValue) else value


def _write_base(
    context: StepContext, base: ModelValue, settings: OllamaSettings, folder: Path
) -> Written:
    """Write the base model of an adapter under another name than the adapter."""
    named = replace(context, project_name=f"{context.project_name or 'model'} base")
    return gguf.write_gguf(named, base, _gguf(settings), folder)


def _shown(turns: Turns | None) -> str:
    return "in the Modelfile" if turns else "only in the GGUF file"


def _context_length(settings: OllamaSettings, config: dict[str, Any]) -> int:
    if settings.context_length:
        return settings.context_length
    known = config.get("max_position_embeddings") or config.get("n_positions")
    return min(int(known), _MOST_CONTEXT) if isinstance(known, int) and known > 0 else 4096


def _turns(context: StepContext, tokenizer: Any) -> Turns | None:
    """What the chat template writes around messages, without a BOS token that llama.cpp adds; ``None`` with a notice
    if it does more than that."""
    source = str(tokenizer.chat_template)

    def rendered(messages: Sequence[Message], ask: bool) -> str:
        try:
            return render(tokenizer, messages, ask=ask)
        except TemplateRefused as error:
            raise NotFixed(f"it refuses a conversation ({error})") from error

    try:
        if isinstance(tokenizer.chat_template, dict):
            raise NotFixed("the tokenizer has several")
        turns = find_turns(rendered)
    except NotFixed as error:
        context.notice(
            f"The chat template was not translated for Ollama: {error}. The Modelfile has no TEMPLATE.",
            "Ollama then uses the most similar template that it knows; newer versions use the one in the GGUF file if "
            "none is similar, older ones send messages without a template. Compare an answer with one in the program, "
            "or run the GGUF file with llama-server, which uses the model's own chat template.",
        )
        return None
    bos = str(tokenizer.bos_token or "")
    if bos and starts_with_bos(tokenizer):
        if not turns.starts_with(bos):
            context.notice(
                f"Ollama adds the token {bos} before every conversation, which the chat template does not write."
            )
        turns = turns.without_bos(bos)
    _tell_differences(context, turns, source)
    return turns


def _tell_differences(context: StepContext, turns: Turns, source: str) -> None:
    """Say what the template of Ollama does not do."""
    reads = {found.group() for found in _READS.finditer(source)}
    lacks = []
    if turns.before_system is None:
        lacks.append(
            "system messages are left out, because the chat template has no place for them"
        )
    if "tools" in reads:
        lacks.append("tools are not supported")
    if reads & {"</think>", "reasoning_content", "enable_thinking"}:
        lacks.append("reasoning in earlier answers is not removed")
    if turns.strips:
        lacks.append("white space at the ends of messages is kept")
    if "strftime_now" in reads:
        lacks.append("the date is that of the export")
    if lacks:
        context.notice(f"In the template for Ollama, {'; '.join(lacks)}.", level="info")


def _tell(context: StepContext, name: str, stated: dict[str, Any], base: str) -> None:
    context.notice(
        f"The model is added to Ollama as {name} with: {commands(name)[0]} (in the folder of the export).",
        level="info",
    )
    if "temperature" not in stated and stated.get("do_sample") is not False:
        context.notice(
            "The model states no temperature, so that Ollama uses its own (0.8).",
            "For repeatable answers enter /set parameter temperature 0 in ollama run.",
            "info",
        )
    if base:
        context.notice(
            f"Ollama applies the adapter to {base}, which was not compared with the base model of the adapter.",
            "Make sure that it is the same model, or leave Base model in Ollama empty.",
        )
