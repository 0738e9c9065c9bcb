"""The parity check: reads an export back in fresh processes and compares it with the trained model.

The trained model is the base with the unmerged adapter, or the trained model itself after full fine-tuning, in float32
where the memory allows. Each process holds one model. Nothing here changes the export, and a check that cannot be made
is reported as not proven.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from studio.errors import Stopped, StudioError
from studio.export_folder import llama_cpp, optional
from studio.export_folder.model_card import base_name
from studio.export_folder.parity import CAUSES, Check, bits_of, gain_kept, judged
from studio.graph.context import StepContext
from studio.model.folder_check import folder_faults
from studio.model.folder_files import json_or_empty
from studio.model.mlx_adapter import is_mlx
from studio.model.weight_files import stored_tensors
from studio.node_settings.export import GgufSettings
from studio.system import busy_files, disk, hardware
from studio.system.children import end_child, module_command, start_child
from studio.system.memory import HEADROOM
from studio.training.answer.questions import exact_match
from studio.training.export.gguf import needed_bytes, write_gguf
from studio.training.export.parity.compare import difference, first_difference, loss
from studio.training.export.parity.rows import HeldOut, held_out, trained_as
from studio.training.fetch.gguf_reading import QuickReader
from studio.training.model.load import config_of, free_bytes, free_memory, roomy_device
from studio.training.saved.snapshot import ADAPTER, CONFIG
from studio.training.tokens.chat import TemplateRefused, load_tokenizer, render
from studio.training.tokens.ends import turn_end_id
from studio.values import AdapterValue, DatasetValue, ModelValue
from studio.variants.exporter import Exportable, Readable

logger = logging.getLogger(__name__)
_READ_MODEL = "studio.training.export.parity.read_model"
_READ_GGUF = "studio.training.export.parity.read_gguf"
_READ_MLX = "studio.training.export.parity.read_mlx"
_POLL_S, _GRACE_S = 0.1, 3.0
_SAMPLE = 48
"""Tokens whose embeddings are compared."""
_BEST = 0.3
"""A known fault explains a difference if, with it, the divergence is at most this share."""
_OTHER_EMBEDDING = {16: 0.02, 8: 0.06, 4: 0.35}
"""The mean distance between directions of embeddings that rounding explains, by bits per weight."""
_KILLED = (-9, 137)


def check_export(
    context: StepContext,
    value: Exportable,
    folder: Path,
    readable: Sequence[Readable],
    prompts: int,
    evaluated: DatasetValue | None = None,
) -> list[Check]:
    """Read everything in ``folder`` back and compare it; ``prompts`` is the number of rows, 0 for no check. Raises
    ``Stopped`` after a stop request, and no other errors."""
    if not readable:
        return []
    if not prompts:
        return [
            _unproven(r, "The check is turned off.", "Set Check rows in the Export node.", folder)
            for r in readable
        ]
    try:
        context.checkpoints.mkdir(parents=True, exist_ok=True)
        for left in context.checkpoints.glob("parity-*"):  # of a run that was killed
            busy_files.tidy(left)
        with tempfile.TemporaryDirectory(prefix="parity-", dir=context.checkpoints) as place:
            gate = _Gate(context, value, folder, Path(place), prompts, evaluated)
            return [gate.check(r) for r in readable]
    except Stopped:
        raise
    except Exception as error:  # the export is complete, and must not be lost by its check
        logger.warning("The export could not be checked", exc_info=error)
        return [_unproven(r, f"It could not be checked: {error}", "", folder) for r in readable]


def _unproven(part: Readable, why: str, hint: str, folder: Path) -> Check:
    where = folder / part.path
    return Check(part.path, part.title, part.reader, "not_proven", why, hint, bytes=_size(where))


def _size(place: Path) -> int:
    files = [place] if place.is_file() else [p for p in place.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files)


class _Failed(Exception):
    """A reader did not answer; ``killed``: it was ended from outside, as for lack of memory."""

    def __init__(self, why: str, killed: bool = False) -> None:
        super().__init__(why)
        self.killed = killed


class _NoRoom(_Failed):
    """What a reader needs does not fit on the disk or in memory."""


@dataclass(frozen=True)
class _Reference:
    """What the base model (``before``, if there is one) and the trained model (``after``) answered; ``rows`` are
    log-probabilities (positions, vocabulary), ``embedding`` directions of the embedding of some tokens."""

    before: Mapping[str, Any] | None
    after: Mapping[str, Any]
    rows: Mapping[str, Any]
    embedding: Any


class _Gate:
    """The checks of one export."""

    def __init__(
        self,
        context: StepContext,
        value: Exportable,
        folder: Path,
        place: Path,
        prompts: int,
        evaluated: DatasetValue | None,
    ) -> None:
        self.context, self.value, self.folder, self.place = context, value, folder, place
        self.trained = trained_as(value)
        self.tokenizer = load_tokenizer(self.trained.path if self.trained else value.path)
        self.base = _base_of(value, self.trained)
        self.dequantized = _is_dequantized(value, self.base)
        self.config = config_of(Path(self.base.path))
        size = int(getattr(self.config.get_text_config(), "vocab_size", 0) or len(self.tokenizer))
        self.vocabulary = size
        self.rows: HeldOut = held_out(self.trained, evaluated, self.tokenizer, prompts, size)
        self.device, self.dtype = _place(self.base)
        self._reference: _Reference | None = None
        self._base_gguf: Path | None = None

    # ------------------------------------------------------------- one part

    def _checked(self, part: Readable) -> Check:
        where = self.folder / part.path
        if part.reader == "llama.cpp" and not llama_cpp.is_installed():
            why, hint = "llama.cpp is not installed.", llama_cpp.missing_words()
            return replace(_unproven(part, why, hint, self.folder), code=llama_cpp.NO_READER)
        if part.needs and not optional.is_installed(part.needs):
            why = f"{part.needs} is not installed."
            return _unproven(part, why, optional.missing_words(part.needs), self.folder)
        plain = Check(
            part.path,
            part.title,
            part.reader,
            "not_proven",
            bytes=_size(where) + (_size(self.folder / part.base) if part.base else 0),
            prompts=len(self.rows.rows),
            positions=len(self.rows.labels),
            source=self.rows.source,
            reference=self._words(),
        )
        fault = self._fault(part, where)
        if fault:
            return replace(plain, verdict="red", **fault)
        lack = self._lack_of_memory()
        if lack:
            return replace(plain, cause=lack, hint="Close other programs, and export again.")
        try:
            reference = self._reference or self._read_reference()
        except _Failed as error:
            return replace(plain, cause=f"The trained model could not be read: {error}")
        try:
            found = self._read(part, where)
        except _NoRoom as error:
            return replace(plain, cause=str(error), hint=disk.FREE_SPACE)
        except _Failed as error:
            if error.killed:
                why = f"Its program was ended, probably because memory ran out ({error})."
                return replace(plain, cause=why, hint="Close other programs, and export again.")
            return replace(plain, verdict="red", **_caused("unreadable", f" {error}"))
        measured = self._measured(plain, reference, found, part)
        return self._judged(measured, reference, part, where, found)

    def check(self, part: Readable) -> Check:
        """Read a part back and compare it. The cause does not name the staging folder."""
        found = self._checked(part)
        cause = found.cause.replace(f"{self.folder}/", "").replace(str(self.folder), "the export")
        return replace(found, cause=cause)

    def _words(self) -> str:
        if self._is_whole():
            return f"the trained model, in {self.dtype}"
        kind = self.base.quantization
        weights = ""
        if self.dequantized:
            weights = f"; the base with the weights of its training, dequantized from {kind}"
        elif kind != "none":
            weights = (
                f"; the base with its original weights, not with those in {kind} of the training"
            )
        return f"base and adapter, not merged, in {self.dtype}{weights}"

    def _base_weights(self) -> dict[str, Any] | None:
        """The base whose quantized weights the trained model is read with; ``None`` for the stored weights."""
        return self.base.model_dump(mode="json") if self.dequantized else None

    def _lack_of_memory(self) -> str:
        """That the trained model does not fit into memory; the system would end this or another program."""
        if self._reference is not None:
            return ""
        needed = round(self.base.parameters * getattr(torch, self.dtype).itemsize * HEADROOM)
        room = free_bytes(self.device)
        if needed <= room:
            return ""
        free = disk.size_text(room)
        return f"Reading the trained model needs {disk.size_text(needed)} of memory, and {free} are free."

    def _is_whole(self) -> bool:
        """Whether the trained model is stored as a whole, instead of as an adapter."""
        return self.trained is None or not (Path(self.trained.path) / CONFIG).is_file()

    def _fault(self, part: Readable, where: Path) -> dict[str, Any]:
        """What the files alone show to be wrong."""
        if not where.exists() or (part.base and not (self.folder / part.base).exists()):
            return _caused("missing_file")
        if part.reader == "transformers":
            for fault in folder_faults(where):
                if part.needs and fault.code == "quantized_source":
                    continue  # that is what was exported
                missing = "missing" in fault.code or "missing" in fault.sentence
                code = "missing_file" if missing else "unreadable"
                return _caused(code, f" ({fault.sentence.rstrip('.')})")
        if part.reader == "peft":
            return self._adapter_fault(where)
        if part.reader == "mlx" and not is_mlx(where):
            return _caused("missing_file")
        return {}

    def _adapter_fault(self, where: Path) -> dict[str, Any]:
        config = json_or_empty(where, CONFIG)
        if not (where / ADAPTER).is_file() or not config:
            return _caused("missing_file")
        assert isinstance(self.value, AdapterValue)
        trained = json_or_empty(Path(self.value.path), CONFIG)
        names = list(stored_tensors(where / ADAPTER))
        for module in config.get("modules_to_save") or ():
            if not any(module in name.split(".") for name in names):
                return _caused("modules_lost", f" {module} is listed, and has no weights.")
        named = str(config.get("base_model_name_or_path") or "")
        own = {str(trained.get("base_model_name_or_path") or ""), self.base.path, self.base.source}
        own |= {base_name(self.base) or "", Path(self.base.path).name, Path(self.base.source).name}
        if named and named not in own and not _same_place(named, where, self.base.path):
            return _caused("wrong_base", f" It names {named}.")
        return {}

    # ------------------------------------------------------------- reading

    def _request(self, **more: Any) -> dict[str, Any]:
        rows = [{"ids": r.ids, "places": r.places} for r in self.rows.rows]
        sample = sorted({i for r in self.rows.rows for i in r.ids if i < self.vocabulary})
        return {
            "rows": rows,
            "prompts": [r.ids[: r.start] for r in self.rows.rows],
            "new_tokens": self.rows.new_tokens,
            "sample": sample[:_SAMPLE],
            "ends": sorted(self._ends()),
            "pad": int(self.tokenizer.pad_token_id or 0),
            "threads": self.context.threads or hardware.cpu_count() or 1,
            "device": str(self.device),
            "dtype": self.dtype,
            **more,
        }

    def _read_reference(self) -> _Reference:
        stages = []
        adapter = None if self._is_whole() or self.trained is None else self.trained.path
        whole = self.value.path if adapter is None else self.base.path
        weights = self._base_weights() if adapter is not None else None
        stage = {"model": self.base.path, "adapter": None, "trained": True, "quantized": weights}
        if adapter is not None or (isinstance(self.value, ModelValue) and self.value.base):
            stages.append({**stage, "name": "before"})
        stages.append({**stage, "name": "after", "model": whole, "adapter": adapter})
        key = json.dumps([self._request(), stages], sort_keys=True).encode()
        digest = hashlib.sha256(key).hexdigest()
        kept = _kept.get(digest)
        if kept is None:
            _kept.clear()  # it takes tens of megabytes
            out = str(self.place)
            found = self._ask(
                _READ_MODEL, self._request(stages=stages, out=out), "the trained model"
            )
            rows = {name: np.load(self.place / f"{name}.npy") for name in found}
            embedding = np.load(self.place / "after-embedding.npy")
            kept = _Reference(found.get("before"), found["after"], rows, embedding)
            _kept[digest] = kept
        self._reference = kept
        return kept

    def _read(self, part: Readable, where: Path) -> Mapping[str, Any]:
        """What the program of a part answered; the probabilities are in ``exported.npy``."""
        if part.reader == "llama.cpp":
            return self._read_gguf(part, where)
        if part.reader == "mlx":
            own = {"name": "exported", "model": self.base.path, "adapter": str(where)}
            return self._ask(_READ_MLX, self._request(out=str(self.place), **own), "the adapter")
        adapter = str(where) if part.reader == "peft" else None
        stage = {
            "name": "exported",
            "model": self.base.path if adapter else str(where),
            "adapter": adapter,
            "trained": False,
            "timed": True,
        }
        asked = self._request(stages=[stage], out=str(self.place))
        found: Mapping[str, Any] = self._ask(_READ_MODEL, asked, "the export")["exported"]
        return found

    def _read_gguf(self, part: Readable, where: Path) -> Mapping[str, Any]:
        adapter = isinstance(self.value, AdapterValue)
        model = where
        if adapter:
            model = self.folder / part.base if part.base else self._written_base()
        first = self.rows.rows[0]
        plain = first.chat is not None and not first.chat[1] and not first.chat[2]
        asked = self._request(
            name="exported",
            model=str(model),
            adapter=str(where) if adapter else None,
            vocabulary=self.vocabulary,
            readable=_readable_token(self.tokenizer),
            messages=first.chat[0] if plain and first.chat and not adapter else None,
            out=str(self.place),
        )
        found = self._ask(_READ_GGUF, asked, "the GGUF file")
        found["generated"] = [self._tokens(answer) for answer in found["generated"]]
        return found

    def _tokens(self, answer: Mapping[str, Any]) -> list[int] | None:
        """The tokens of an answer of llama.cpp; ``None`` if they cannot be told from its text."""
        if answer["ids"] is not None:
            return list(answer["ids"])
        if "\N{REPLACEMENT CHARACTER}" in answer["text"]:
            return None
        found = self.tokenizer(answer["text"], add_special_tokens=False, verbose=False)
        return list(found["input_ids"])

    def _written_base(self) -> Path:
        """The base model as GGUF, on which llama.cpp applies an adapter."""
        if self._base_gguf is None:
            folder = self.place / "base"
            folder.mkdir()
            quiet = replace(self.context, emit_event=lambda event: None, artifacts=[])
            kind = "F32" if self.base.parameters < 1e8 else "F16"
            settings = GgufSettings(quantizations=[kind])
            needed, room = needed_bytes(self.base, settings), disk.free_bytes(folder)
            if room is not None and room < needed:
                raise _NoRoom(
                    f"The base model has to be written as GGUF for it, which needs {disk.size_text(needed)} in "
                    f"{folder.parent.parent}, where {disk.size_text(room)} are free."
                )
            write_gguf(quiet, self.base, settings, folder)
            (self._base_gguf,) = folder.glob("*.gguf")
        return self._base_gguf

    def _ask(self, module: str, asked: Mapping[str, Any], what: str) -> dict[str, Any]:
        """The answer of a reader. Raises ``_Failed``, or ``Stopped``."""
        self.context.phase("verify", f"Checking the export ({what}): starting")
        free_memory()
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
            process = start_child(module_command(module), errors, asked=True)
            answers: list[dict[str, Any]] = []
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(json.dumps(asked))
                process.stdin.close()
                listener = threading.Thread(
                    target=_listen, args=(process.stdout, answers.append), daemon=True
                )
                listener.start()
                self._follow(listener, answers, what)
                code = process.wait()
            except (BrokenPipeError, OSError) as error:
                raise _Failed(str(error)) from error
            finally:
                end_child(process, _GRACE_S)
            found = next((a["found"] for a in answers if "found" in a), None)
            if found is None:
                errors.seek(0)
                raise _Failed(_last_words(errors.read(), code), code in _KILLED)
            return dict(found)

    def _follow(
        self, listener: threading.Thread, answers: Sequence[Mapping[str, Any]], what: str
    ) -> None:
        """Report what a reader does until it ends. Raises ``Stopped``."""
        shown = ""
        while listener.is_alive():
            self.context.check()
            latest = next((a for a in reversed(answers) if "progress" in a), None)
            if latest is not None:
                title = str(latest["progress"])
                if title != shown:
                    shown = title
                    self.context.phase("verify", f"Checking the export ({what}): {title}")
                if "total" in latest:
                    self.context.progress("verify", latest["done"], latest["total"], "rows")
            listener.join(_POLL_S)

    # ------------------------------------------------------------- measuring

    def _measured(
        self, plain: Check, reference: _Reference, found: Mapping[str, Any], part: Readable
    ) -> Check:
        exported, known = self._exported(part)
        wanted = reference.rows["after"]
        differs = difference(wanted, exported, known)
        losses: dict[str, float | None] = dict.fromkeys(("before", "after", "exported"))
        labels = np.array(self.rows.labels)
        effect = None
        if self.rows.labelled:
            losses["after"], losses["exported"] = loss(wanted, labels), loss(exported, labels)
        if reference.before is not None:
            base = reference.rows["before"]
            effect = difference(wanted, base).kl_mean
            if self.rows.labelled:
                losses["before"] = loss(base, labels)
        matches = self._matches(reference, found)
        return replace(
            plain,
            kl_mean=differs.kl_mean,
            kl_p99=differs.kl_p99,
            top1_agreement=differs.top1_agreement,
            effect=effect,
            gain_kept=gain_kept(losses["before"], losses["after"], losses["exported"]),
            diverges=first_difference(reference.after["generated"], found["generated"]),
            generated=max((len(ids) for ids in found["generated"] if ids is not None), default=0),
            speed=found.get("speed"),
            loss_before=losses["before"],
            loss_after=losses["after"],
            loss_exported=losses["exported"],
            match_before=matches.get("before"),
            match_after=matches.get("after"),
            match_exported=matches.get("exported"),
        )

    def _exported(self, part: Readable) -> tuple[Any, Any]:
        known = self.place / "exported-known.npy"
        partial = part.reader == "llama.cpp"
        return np.load(self.place / "exported.npy"), np.load(known) if partial else None

    def _matches(self, reference: _Reference, found: Mapping[str, Any]) -> dict[str, float]:
        """Shares of exact matches of base, trained and exported model."""
        questions = self.rows.questions
        if not questions:
            return {}
        answers = {"after": reference.after, "exported": found}
        if reference.before is not None:
            answers["before"] = reference.before
        return {
            name: exact_match(
                [
                    self.tokenizer.decode(ids or [], skip_special_tokens=True)
                    for ids in answer["generated"]
                ],
                questions,
            )
            for name, answer in answers.items()
        }

    # ------------------------------------------------------------- template and end tokens

    def _ends(self) -> set[int]:
        """The tokens with which answers of the training end."""
        found = set(self.rows.ends)
        found |= {
            i for i in (self.tokenizer.eos_token_id, turn_end_id(self.tokenizer)) if i is not None
        }
        known = json_or_empty(Path(self.base.path), "generation_config.json").get("eos_token_id")
        known = known if known is not None else self.config.eos_token_id
        return found | {
            int(i) for i in (known if isinstance(known, list) else [known]) if i is not None
        }

    def _facts(
        self, part: Readable, where: Path, found: Mapping[str, Any]
    ) -> tuple[bool | None, bool | None, str]:
        """Whether rendered prompt and end tokens are those of the training, and a sentence about a difference."""
        if part.reader == "llama.cpp" and isinstance(self.value, AdapterValue):
            return None, None, ""  # they are those of the base's file
        if part.reader == "llama.cpp":
            template, ends = _in_gguf(where)
            given = self._prompts(template)
        else:
            try:
                # mlx-lm takes it from the base model
                own = load_tokenizer(self.base.path if part.reader == "mlx" else where)
                given = self._prompts(own.chat_template, own)
            except StudioError as error:
                return False, None, f" {error}"
            ends = self._folder_ends(where) if part.reader == "peft" else set(found["ends"])
        trained = self._prompts(self.tokenizer.chat_template)
        same = None if not trained else given == trained
        wanted = self._ends()
        taught = self.rows.ends
        stop = not (taught - ends) and not (ends - wanted) if ends or taught else None
        if stop is False:
            words = " and ".join(repr(self.tokenizer.decode([i])) for i in sorted(taught or wanted))
            return same, stop, f" The training ends answers with {words}."
        count = found.get("chat_tokens")
        if same and count is not None and trained:
            expected = len(self.tokenizer(trained[0], add_special_tokens=False)["input_ids"])
            if count != expected:
                what = "rejects the chat template" if count < 0 else f"makes {count} tokens"
                return same, stop, f" Of the first prompt ({expected} tokens) llama.cpp {what}."
        return same, stop, ""

    def _prompts(self, template: Any, tokenizer: Any = None) -> list[str]:
        """The prompts of the rows by a chat template."""
        found = []
        own = tokenizer or self.tokenizer
        before, own.chat_template = own.chat_template, template
        try:
            for row in self.rows.rows[:4]:
                if row.chat is not None:
                    messages, tools, kwargs = row.chat
                    found.append(render(own, messages, ask=True, tools=tools, kwargs=kwargs))
        except (TemplateRefused, ValueError, TypeError) as error:
            return [f"refused: {error}"]
        finally:
            own.chat_template = before
        return found

    def _folder_ends(self, where: Path) -> set[int]:
        """The end tokens in the generation config beside an adapter; those of the base if there is none."""
        own = json_or_empty(where, "generation_config.json").get("eos_token_id")
        return {int(i) for i in (own if isinstance(own, list) else [own]) if i is not None}

    # ------------------------------------------------------------- verdict and cause

    def _judged(
        self,
        check: Check,
        reference: _Reference,
        part: Readable,
        where: Path,
        found: Mapping[str, Any],
    ) -> Check:
        same, stop, more = self._facts(part, where, found)
        check = replace(check, template=same, stop=stop)
        verdict = judged(check)
        if same is False:
            return replace(check, verdict=verdict, **_caused("wrong_template", more))
        if stop is False:
            return replace(check, verdict=verdict, **_caused("wrong_end_token", more))
        if verdict == "green":
            if more:
                hint = "Compare the prompts that llama.cpp makes with those of the training."
                return replace(
                    check, verdict="amber", cause=more.strip(), hint=hint, code="template"
                )
            return replace(check, verdict=verdict)
        code = self._cause(check, reference, part, where)
        return replace(check, verdict=verdict, **_caused(code, more))

    def _cause(self, check: Check, reference: _Reference, part: Readable, where: Path) -> str:
        """The code of the likely cause of a difference."""
        exported, known = self._exported(part)
        bits = bits_of(part.title)
        assert check.kl_mean is not None
        if not np.isfinite(check.kl_mean):
            return "weights"
        likely: dict[str, float] = {}
        if reference.before is not None:
            likely["adapter_missing"] = difference(
                reference.rows["before"], exported, known
            ).kl_mean
        likely |= self._with_faults(part)
        best = min(likely, key=lambda code: likely[code], default="")
        if best and likely[best] < _BEST * check.kl_mean:
            return best
        if self._embedding_distance(part, where, reference) > _OTHER_EMBEDDING[bits]:
            return "wrong_base"
        if bits < 16:
            return "quantization" if judged(check) == "red" else "lossy"
        return "weights" if judged(check) == "red" else "rounding"

    def _with_faults(self, part: Readable) -> dict[str, float]:
        known = self.place / "exported-known.npy"
        adapter = None if self._is_whole() or self.trained is None else self.trained.path
        asked = self._request(
            exported=str(self.place / "exported.npy"),
            known=str(known) if part.reader == "llama.cpp" else None,
            model=self.base.path if adapter else self.value.path,
            adapter=adapter,
            quantized=self._base_weights() if adapter else None,
        )
        try:
            found = self._ask(_READ_MODEL, asked, "the cause of the difference")
        except _Failed as error:
            logger.info("The cause of a difference was not searched: %s", error)
            return {}
        return {str(code): float(kl) for code, kl in found.items()}

    def _embedding_distance(self, part: Readable, where: Path, reference: _Reference) -> float:
        """The mean distance between the directions of the embeddings of some tokens."""
        if part.reader == "llama.cpp" and isinstance(self.value, AdapterValue):
            return 0.0
        wanted = reference.embedding
        if part.reader == "llama.cpp":
            found = _gguf_embedding(where, self._request()["sample"])
        else:
            found = np.load(self.place / "exported-embedding.npy")
        if found.shape != wanted.shape:
            return 2.0
        return float(np.linalg.norm(found - wanted, axis=1).mean())


_kept: dict[str, _Reference] = {}
"""What the trained model answered last: several exports of a run are compared with the same."""


def _base_of(value: Exportable, trained: AdapterValue | None) -> ModelValue:
    if trained is not None and (Path(trained.path) / CONFIG).is_file():
        return trained.model.model
    assert isinstance(value, ModelValue)
    return value.base or value


def _is_dequantized(value: Exportable, base: ModelValue) -> bool:
    """Whether the adapter was merged into the quantized weights of its training, dequantized."""
    if not isinstance(value, ModelValue) or not value.merged_from:
        return False
    return (
        base.quantization != "none" and value.merged_from[-1].get("base_weights") == "dequantized"
    )


def _place(base: ModelValue) -> tuple[torch.device, str]:
    """Device and precision of the comparison: float32 if the memory allows."""
    free_memory()
    plain = base.model_copy(update={"dtype": "float32", "quantization": "none"})
    device = roomy_device(plain)
    if base.parameters * torch.float32.itemsize * HEADROOM < free_bytes(device):
        return device, "float32"
    smaller = base.dtype if base.dtype != "float32" else "bfloat16"
    return roomy_device(plain.model_copy(update={"dtype": smaller})), smaller


def _caused(code: str, more: str = "") -> dict[str, Any]:
    cause = CAUSES[code]
    return {"cause": f"{cause.sentence}{more}", "hint": cause.hint, "code": code}


def _same_place(named: str, where: Path, base: str) -> bool:
    path = Path(named)
    found = path if path.is_absolute() else where / path
    return found.is_dir() and found.resolve() == Path(base).resolve()


def _readable_token(tokenizer: Any) -> int:
    """A token that is a whole character."""
    for letter in "abcdefgh":
        ids = tokenizer(letter, add_special_tokens=False)["input_ids"]
        if len(ids) == 1:
            return int(ids[0])
    return 0


def _in_gguf(file: Path) -> tuple[Any, set[int]]:
    """Chat template and end tokens in the keys of a GGUF file."""
    fields = QuickReader(file).fields
    template = fields.get("tokenizer.chat_template")
    ends = set()
    for name in ("eos", "eot", "eom"):
        field = fields.get(f"tokenizer.ggml.{name}_token_id")
        if field is not None:
            ends.add(int(field.contents()))
    return template.contents() if template is not None else None, ends


def _gguf_embedding(file: Path, sample: Sequence[int]) -> Any:
    import gguf

    tensor = next(t for t in QuickReader(file).tensors if t.name == "token_embd.weight")
    rows = gguf.dequantize(tensor.data[list(sample)], tensor.tensor_type)
    rows = rows.reshape(len(sample), -1).astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _listen(stream: Iterator[str], take: Callable[[dict[str, Any]], None]) -> None:
    for line in stream:
        try:
            answer = json.loads(line)
        except ValueError:
            continue  # printed by a library
        if isinstance(answer, dict):
            take(answer)


def _last_words(log: str, code: int) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    wanted = [n for n in lines if "error" in n.lower()] or lines
    return wanted[-1][:300] if wanted else f"it exited with code {code}"
