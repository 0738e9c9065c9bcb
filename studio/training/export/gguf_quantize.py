"""Runs ``llama-quantize``: from a GGUF file with full precision to a K- or I-quant."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import gguf

from studio.errors import StudioError
from studio.export_folder.gguf_mixtures import TYPES
from studio.export_folder.gguf_quantizer import WITH_MATRIX
from studio.graph.context import StepContext
from studio.node_settings.export import GgufSettings
from studio.system import busy_files
from studio.system.children import end_child, start_child
from studio.training.batch.batches import pad_rows
from studio.training.export.gguf_file import data_size
from studio.training.export.gguf_importance import collect, write_matrix
from studio.training.export.gguf_weights import Names, Tensor
from studio.training.loop.evaluation import evenly_spaced
from studio.training.model.load import free_memory, load_base, roomy_device
from studio.training.model.out_of_memory import explain_out_of_memory
from studio.training.tokens.as_trained import settings_as_trained, tokenized_as_trained
from studio.training.tokens.limits import pad_id_of
from studio.values import AdapterValue, ModelValue

_PART = re.compile(r"^\[\s*(\d+)\s*/\s*(\d+)\]")
_GRACE_S = 2.0
_MATRIX, _TOKENS = ".importance.dat", ".importance-tokens"


def quantize_files(
    context: StepContext,
    value: ModelValue,
    program: Path,
    source: Path,
    files: Mapping[str, Path],
    settings: GgufSettings,
    names: Names,
    tensors: Sequence[Tensor],
) -> None:
    """Write all ``files`` (quantization -> path) from ``source``, with an importance matrix where it is wanted, and say
    what is stored in other types."""
    wanted = kinds_with_matrix(list(files), settings)
    for kind in files:
        matrices = [t for t in tensors if len(t.shape) > 1]
        narrow = sum(t.shape[-1] % gguf.QK_K != 0 for t in matrices)
        size = data_size(tensors, kind, kind in wanted)
        context.notice(
            f"{kind}: about {size / 1e6:,.1f} MB. {narrow} of {len(matrices)} matrices have rows "
            "whose length is no multiple of 256, and are stored in other types.",
            level="info",
        )
    matrix = source.parent / _MATRIX
    made = bool(wanted) and _write_matrix(context, value, settings, names, matrix, wanted)
    told = _takes_types(program)
    for kind, target in files.items():
        context.phase("export", f"Quantizing to {kind}")

        def tick(done: int, total: int) -> None:
            context.progress("export", done, total, "tensors")

        used = matrix if made and kind in wanted else None
        types = [*_types(tensors, kind, used is not None)] if told else []
        quantize(
            program, source, target, kind, used, types, context.threads or 1, tick, context.check
        )
        count, total, others = other_types(target, kind)
        listed = ", ".join(f"{n} in {t}" for t, n in sorted(others.items()))
        context.notice(
            f"{kind}: {count} of {total} matrices are stored in another type than {TYPES[kind]}"
            f"{f' ({listed})' if listed else ''}.{' An importance matrix was used.' if used else ''}",
            level="info",
        )
    busy_files.remove(matrix)


def kinds_with_matrix(kinds: Sequence[str], settings: GgufSettings) -> list[str]:
    """Those of the quantizations for which an importance matrix is wanted."""
    if settings.importance_matrix == "never":
        return []
    return [q for q in kinds if settings.importance_matrix == "always" or q in WITH_MATRIX]


def _write_matrix(
    context: StepContext,
    value: ModelValue,
    settings: GgufSettings,
    names: Names,
    path: Path,
    wanted: list[str],
) -> bool:
    """Compute the matrix on the rows of the model's training; False, with a notice, if there are none."""
    adapter = (
        AdapterValue.model_validate(value.merged_from[-1]["adapter"]) if value.merged_from else None
    )
    dataset = adapter.dataset if adapter is not None else None
    if adapter is None or dataset is None or not (Path(dataset.path) / "train").is_dir():
        context.notice(
            f"The rows of the training are not known, so that {', '.join(wanted)} are written without an importance "
            "matrix, which costs quality.",
            "Export from the run of the training, or choose Q4_K_M or more bits.",
        )
        return False
    train = settings_as_trained(adapter.train)
    folder = path.parent / _TOKENS
    tokenizer, tokens = tokenized_as_trained(context, dataset, train, value.path, value, folder)
    rows = tokens.train
    numbers = evenly_spaced(len(rows), settings.importance_rows)
    with explain_out_of_memory("importance matrix", "Set Importance matrix to Never."):
        model = load_base(
            context, value, "Loading the model for the importance matrix", roomy_device(value)
        )
        context.phase("export", "Computing the importance matrix")
        pad_id = pad_id_of(model, tokenizer)
        means = collect(
            model,
            (pad_rows(rows, [n], pad_id) for n in numbers),
            lambda done: context.progress("export", done, len(numbers), "rows"),
        )
        del model
        free_memory()
    count = write_matrix(path, means, names, f"{len(numbers)} rows")
    del rows, tokens
    busy_files.tidy(folder)
    context.notice(
        f"Importance matrix: {count} layers, computed on {len(numbers)} training rows.",
        level="info",
    )
    return True


def quantize(
    program: Path,
    source: Path,
    target: Path,
    kind: str,
    matrix: Path | None,
    options: Sequence[str],
    threads: int,
    tick: Callable[[int, int], None],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write ``target``. ``tick(tensors done, tensors)`` and ``check`` may raise to stop: the program is ended then.
    Raises ``StudioError`` with the last line of what the program says if it fails."""
    command = [str(program), *(["--imatrix", str(matrix)] if matrix else [])]
    command += [*options, str(source), str(target), kind, str(threads)]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        child = start_child(command, errors)
        last = ""
        try:
            for line in child.stdout or ():
                check()
                last = line.strip() or last
                found = _PART.match(line.strip())
                if found:
                    tick(int(found[1]), int(found[2]))
            code = child.wait()
        except BaseException:
            end_child(child, _GRACE_S)
            busy_files.remove(target)
            raise
        end_child(child, _GRACE_S)
        errors.seek(0)
        said = [text.strip() for text in errors.read().splitlines() if text.strip()]
    if code or not target.is_file():
        raise StudioError(
            f"{program.name} could not write {kind}: {(said or [last])[-1] or f'it ended with {code}'}.",
            title="The quantization failed",
            hint="Choose another quantization, or update llama.cpp.",
            code="gguf_quantizer",
            field="quantizations",
        )


def _takes_types(program: Path) -> bool:
    """Whether this is the program of ik_llama.cpp, which takes a type for each tensor."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        child = start_child([str(program), "--help"], errors)
        said = child.stdout.read() if child.stdout is not None else ""
        child.wait()
        end_child(child, _GRACE_S)
        errors.seek(0)
        return "--custom-q" in said + errors.read()


def _types(tensors: Sequence[Tensor], kind: str, matrix: bool) -> Iterator[str]:
    """The options that give each tensor its type."""
    chosen = {t.name: t.type_for(kind, matrix).name for t in tensors if len(t.shape) > 1}
    named = {n: t.lower().replace("_k", "_K") for n, t in chosen.items() if t != "F32"}
    yield from ("--token-embedding-type", named["token_embd.weight"])
    if "output.weight" in named:
        yield from ("--output-tensor-type", named["output.weight"])
    yield from ("--custom-q", ",".join(f"^{re.escape(n)}$={t}" for n, t in named.items()))


def other_types(path: Path, kind: str) -> tuple[int, int, dict[str, int]]:
    """What a file contains: matrices of other types than most of ``kind``, all matrices, and the others by type."""
    try:
        reader = gguf.GGUFReader(path)
    except ValueError as error:
        raise StudioError(
            f"llama-quantize wrote {kind} with a type of tensors that llama.cpp does not know ({error}).",
            title="The quantization failed",
            hint="Choose another quantization, or put llama.cpp's llama-quantize on the PATH.",
            code="gguf_quantizer",
            field="quantizations",
        ) from error
    matrices = [t for t in reader.tensors if len(t.shape) > 1 and t.shape[1] > 1]
    others = Counter(t.tensor_type.name for t in matrices if t.tensor_type.name != TYPES[kind])
    return sum(others.values()), len(matrices), dict(others)
