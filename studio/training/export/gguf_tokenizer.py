"""The tokenizer of a model as GGUF keys: vocabulary, merges, special tokens and chat template.

llama.cpp has two tokenizers for these models: byte-level BPE, whose pre-tokenizer is chosen by a name
(``tokenizer.ggml.pre``), and the one of SentencePiece, which merges by scores. Everything is taken from
``tokenizer.json``. What llama.cpp would split differently is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
from gguf import TokenType
from transformers import AutoTokenizer

from studio.errors import StudioError
from studio.export_folder.gguf_pre_tokenizers import pre_tokenizer, tokenizer_refusal
from studio.model.damaged import reading
from studio.model.folder_files import json_or_empty
from studio.model.trust import may_run_code
from studio.training.tokens.ends import turn_end_id

_KNOWN_ENDS = frozenset(
    {
        *("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "</s>"),
        *("<|eom_id|>", "<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<end_of_utterance>"),
    }
)
"""Tokens at which llama.cpp ends an answer because of their names (``llama-vocab.cpp``)."""
_TITLE = "The tokenizer cannot be written as GGUF"
_HINT = "Choose the format Safetensors folder."


@dataclass(frozen=True)
class Vocabulary:
    """``model`` and ``pre`` choose the tokenizer of llama.cpp. ``scores`` are only used by SentencePiece's, ``merges``
    only by BPE. ``prefix``: a space is added before the text."""

    model: str
    pre: str
    tokens: Sequence[str]
    types: Sequence[int]
    scores: Sequence[float] = ()
    merges: Sequence[str] = ()
    prefix: bool = False
    dropped: int = 0


def load_plain(folder: Path) -> Any:
    """The tokenizer of a folder as it is stored, without a default chat template."""
    with reading(folder, "tokenizer"):
        return AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=may_run_code(folder), local_files_only=True
        )


def vocabulary(tokenizer: Any, rows: int, kept_pre: str) -> Vocabulary:
    """The vocabulary for a model with ``rows`` embeddings. ``kept_pre`` is the pre-tokenizer of the GGUF file that
    the base model was imported from. Raises ``StudioError`` for a tokenizer that llama.cpp does not have."""
    core = getattr(tokenizer, "backend_tokenizer", None)
    data = json.loads(core.to_str()) if core is not None else {}
    reason = tokenizer_refusal(data, kept_pre)
    if reason:
        raise _refused(reason)
    model = data["model"]
    merges = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
    tokens = {i: t for t, i in model["vocab"].items()}
    if not model.get("byte_fallback"):
        pre = kept_pre or pre_tokenizer(data)
        known = _types(tokens, data["added_tokens"])
        listed, types = _listed(tokens, known, rows)
        lines = [" ".join(m) for m in merges]
        return Vocabulary("gpt2", pre, listed, types, (), lines, dropped=_over(tokens, rows))
    known = _types(tokens, data["added_tokens"], _unknown(model))
    ranks = _ranks(merges)
    listed, types = _listed(tokens, known, rows)
    lowest = -float(len(merges) + 1)
    scores = [
        -float(ranks[t]) if t in ranks and k == TokenType.NORMAL else lowest
        for t, k in zip(listed, types, strict=True)
    ]
    prefix = _adds_space(data)
    return Vocabulary("llama", "default", listed, types, scores, (), prefix, _over(tokens, rows))


def _unknown(model: Mapping[str, Any]) -> str:
    return str(model.get("unk_token") or "")


def _over(tokens: Mapping[int, str], rows: int) -> int:
    return sum(1 for i in tokens if i >= rows)


def _types(
    tokens: dict[int, str], added: Sequence[Mapping[str, Any]], unknown: str = ""
) -> dict[int, int]:
    """The type of each token; adds the added tokens to ``tokens``."""
    types: dict[int, int] = dict.fromkeys(tokens, int(TokenType.NORMAL))
    if unknown:  # a vocabulary of SentencePiece
        for i, text in tokens.items():
            if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
                types[i] = int(TokenType.BYTE)
    for token in added:
        i, text = int(token["id"]), str(token["content"])
        if token.get("special") or _looks_special(text):
            types[i] = int(TokenType.CONTROL)
        else:
            types[i] = int(TokenType.USER_DEFINED)
            text = text.replace("\N{LOWER ONE EIGHTH BLOCK}", " ")
        tokens[i] = text
    for i, text in tokens.items():
        if unknown and text == unknown:
            types[i] = int(TokenType.UNKNOWN)
    return types


def _looks_special(text: str) -> bool:
    """Some models have added tokens that are written like special ones, but are not marked as such."""
    return (text.startswith("<|") and text.endswith("|>")) or text in ("<pad>", "<mask>")


def _listed(
    tokens: Mapping[int, str], types: Mapping[int, int], rows: int
) -> tuple[list[str], list[int]]:
    """Text and type of every row of the embedding; rows without a token are unused."""
    texts = [tokens.get(i, f"[PAD{i}]") for i in range(rows)]
    return texts, [types.get(i, int(TokenType.UNUSED)) for i in range(rows)]


def _ranks(merges: Sequence[Sequence[str]]) -> dict[str, int]:
    """For each token the place of its merges. SentencePiece merges by the score of the result, so that merges with
    the same result must not have others between them."""
    ranks: dict[str, int] = {}
    last = ""
    for place, (left, right) in enumerate(merges):
        whole = left + right
        if whole != last and whole in ranks:
            raise _refused("llama.cpp cannot merge tokens in its order")
        ranks.setdefault(whole, place)
        last = whole
    return ranks


def _adds_space(data: Mapping[str, Any]) -> bool:
    """Whether a space is added before the text."""
    normalizer, pre = data.get("normalizer") or {}, data.get("pre_tokenizer") or {}
    parts = [*normalizer.get("normalizers", [normalizer]), *pre.get("pretokenizers", [pre])]
    return any(
        p.get("type") == "Prepend"
        or (p.get("type") == "Metaspace" and p["prepend_scheme"] != "never")
        for p in parts
    )


def _refused(reason: str) -> StudioError:
    return StudioError(
        f"the tokenizer of this model cannot be written: {reason}.",
        title=_TITLE,
        hint=_HINT,
        code="gguf_tokenizer",
        field="format",
    )


def add_tokenizer(
    writer: gguf.GGUFWriter, tokenizer: Any, found: Vocabulary, ends: Sequence[int] = ()
) -> None:
    """Add the keys of the tokenizer. ``ends`` are the end tokens of the model."""
    writer.add_tokenizer_model(found.model)
    writer.add_tokenizer_pre(found.pre)
    writer.add_token_list(list(found.tokens))
    writer.add_token_types(list(found.types))
    if found.model == "llama":
        writer.add_token_scores(list(found.scores))
        writer.add_add_space_prefix(found.prefix)
    elif found.merges:
        writer.add_token_merges(list(found.merges))
    _add_special(writer, tokenizer, found, ends)
    template = tokenizer.chat_template
    if isinstance(template, dict):
        writer.add_chat_template([{"name": n, "template": t} for n, t in template.items()])
    elif template:
        writer.add_chat_template(template)


def end_ids(folder: Path) -> list[int]:
    """The end tokens of a model, from ``generation_config.json``."""
    given = json_or_empty(folder, "generation_config.json").get("eos_token_id")
    listed = given if isinstance(given, list) else [given]
    return [i for i in listed if isinstance(i, int)]


def special_ids(
    tokenizer: Any, found: Vocabulary, ends: Sequence[int]
) -> tuple[dict[str, int], list[str]]:
    """The ids of the special tokens by their names in GGUF, and the end tokens that have no place.

    llama.cpp ends an answer at EOS, EOT and EOM, and at tokens that it knows by name; GGUF has no list of end tokens.
    """
    rows = len(found.tokens)
    ids = {
        "bos": tokenizer.bos_token_id,
        "eos": tokenizer.eos_token_id,
        "unk": tokenizer.unk_token_id,
        "pad": tokenizer.pad_token_id,
    }
    end = turn_end_id(tokenizer) if tokenizer.chat_template else None
    if end is not None and end != ids["eos"]:
        ids["eot"] = end
    used = {ids["eos"], ids.get("eot")}
    more = [
        i
        for i in dict.fromkeys(ends)
        if i < rows and i not in used and found.tokens[i] not in _KNOWN_ENDS
    ]
    for name in ("eot", "eom"):
        if more and name not in ids:
            ids[name] = more.pop(0)
    known = {name: i for name, i in ids.items() if i is not None and i < rows}
    return known, [found.tokens[i] for i in more]


def _add_special(
    writer: gguf.GGUFWriter, tokenizer: Any, found: Vocabulary, ends: Sequence[int]
) -> None:
    """Add the ids of the special tokens, and whether a text begins with BOS and ends with EOS."""
    ids, _ = special_ids(tokenizer, found, ends)
    for name, token in ids.items():
        getattr(writer, f"add_{name}_token_id")(token)
    encoded = tokenizer("a")["input_ids"]
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    writer.add_add_bos_token(encoded[0] == bos and bos is not None)
    writer.add_add_eos_token(encoded[-1] == eos and eos is not None)
