"""Model folders whose tokenizer, template and configs were changed at random, through check, tokens and
estimate, and some through a run: there is a result, or a sentence, and never a traceback."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.chat_templates import chats
from studio.cli import main
from studio.errors import StudioError
from studio.graph.project import load_project
from studio.graph.registry import load_registry
from studio.runs.failures import as_studio_error
from studio.runs.token_request import token_request
from studio.training.data_host.session import Session
from tests.e2e.studio_cli import studio, write_project, write_rows
from tests.mutated_models import SECRET, mutate
from tests.timing import slowness
from tests.tiny import make_tiny_model

FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
CONFIGS = ("config.json", "generation_config.json")
_NUMBER: tuple[Any, ...] = (-1, 0, 1.5, 10**9, 1e99)
VALUES: tuple[Any, ...] = (None, True, "", "x", [], {}, [1], {"a": 1}, {"type": "New"}, *_NUMBER)
OTHERS = {
    "special_tokens_map.json": ["[", "[1]", '{"eos_token": 5}', '{"pad_token": {"content": 1}}'],
    "added_tokens.json": ["{", "[]", '{"<a>": "x"}', '{"<a>": -5}', '{"<a>": 99999999}'],
    "tokenizer.model": ["", "\x0a\x99 no model"],
    "vocab.json": ["{", "[1]", '{"a": "b"}'],
    "merges.txt": ["a b c d", "\x00"],
    "additional_chat_templates/tool_use.jinja": ["{% for", "{{ 9 ** 9 ** 9 ** 9 }}", ""],
}
TEMPLATES = (
    "{{ (10**7)**(10**7) }}",
    "{{ 'a' * 10**11 }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "{{ 'a' | center(999999999) }}",
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "{{ raise_exception('no') }}",
    "{{ messages[5].content }}",
    "{{ messages | map(attribute='content') | join }}",
    "{% for m in messages %}",
    "{{ nothing.at.all }}",
    "",
    "\x00",
)
WRONG = ("Traceback", "bug in LoRA Studio", "Internal error", "failed unexpectedly")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a tiny model in ``model``."""
    folder = tmp_path_factory.mktemp("sound")
    make_tiny_model(folder / "model", layers=1)
    write_project(folder / "p.studio", "model", write_rows(folder / "rows.jsonl", 6))
    return folder


# ------------------------------------------------------------------ changes


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where values are in JSON data; of a long list or object a few."""
    if path:
        yield path
    items = list(data.items() if isinstance(data, dict) else enumerate(data or ()))
    for key, value in items[:12]:
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))
        else:
            yield (*path, key)


def with_other_value(chance: random.Random, file: Path) -> str:
    data = json.loads(file.read_text(encoding="utf-8"))
    path = chance.choice(list(places(data)))
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    value = chance.choice(VALUES)
    if chance.random() < 0.2:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    file.write_text(json.dumps(data), encoding="utf-8")
    return f"{file.name} {path} = {value!r}"


def with_other_bytes(chance: random.Random, file: Path) -> str:
    data = bytearray(file.read_bytes() or b" ")
    how = chance.choice(("cut", "flip", "double", "empty", "utf16", "noise"))
    at = chance.randrange(len(data))
    if how == "cut":
        del data[at:]
    elif how == "flip":
        data[at] ^= 1 << chance.randrange(8)
    elif how == "double":
        data += data[at:]
    elif how == "noise":
        data[at : at + 4] = chance.randbytes(4)
    file.write_bytes(
        b""
        if how == "empty"
        else data.decode("latin1").encode("utf-16")
        if how == "utf16"
        else data
    )
    return f"{file.name} {how} at {at}"


def with_another_file(chance: random.Random, folder: Path) -> str:
    name = chance.choice(list(OTHERS))
    text = chance.choice(OTHERS[name])
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    gone = chance.random() < 0.5 and name in ("tokenizer.model", "vocab.json", "merges.txt")
    if gone:
        (folder / "tokenizer.json").unlink()
    return f"{name} {text!r} {'alone' * gone}"


def mutated(chance: random.Random, folder: Path, files: tuple[str, ...]) -> str:
    """Change a model folder at random; returns what was changed."""
    kind = chance.choice(("value", "value", "value", "bytes", "template", "file"))
    if kind == "template":
        text = chance.choice(TEMPLATES)
        (folder / "chat_template.jinja").write_text(text, encoding="utf-8")
        return f"template {text[:40]!r}"
    if kind == "file":
        return with_another_file(chance, folder)
    file = folder / chance.choice(files)
    if kind == "bytes" or file.suffix != ".json":
        return with_other_bytes(chance, file)
    return with_other_value(chance, file)


def copied(sound: Path, root: Path) -> Path:
    """The project in ``root``; returns its model folder."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(sound, root)
    write_project(root / "p.studio", "model", root / "rows.jsonl")
    return root / "model"


def case(sound: Path, root: Path, seed: int, files: tuple[str, ...]) -> tuple[Path, str]:
    return root, f"seed {seed}: {mutated(random.Random(seed), copied(sound, root), files)}"


# ------------------------------------------------------------------ what is used


def tokens(project: Path) -> None:
    """What the window shows of the rows; raises what is not for the user."""
    root = project.parent
    request, _ = token_request(load_project(project), load_registry(), root)
    if request is None:
        return
    work = root / f"work-{project.stem}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    session = Session(work, lambda: False, lambda kind, data: None)
    for ask, more in (
        ("open", {"request": request.to_json(), "runs": str(root / "runs")}),
        ("rows", {}),
        ("report", {}),
        ("templates", {}),
    ):
        try:
            for _ in getattr(session, ask)(more):
                pass
        except StudioError:
            if ask == "open":
                return
        except Exception as error:
            if as_studio_error(error, "", work) is None:
                raise
    session._opened().rows.close()


def used(root: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(root / "p.studio")
    try:
        for command in ("check", "estimate"):
            assert main([command, file]) in (0, 1, 2)
        tokens(root / "p.studio")
    except BaseException as error:
        error.add_note(what)
        raise
    shown = "".join(capsys.readouterr())
    assert not [w for w in (*WRONG, SECRET) if w in shown], f"{what}\n{shown}"


def run_ends(root: Path, what: str) -> None:
    """A run of two steps ends, in words, and nothing from outside the model folder is in what it leaves."""
    ran = studio(
        "run",
        root / "p.studio",
        *("--runs", root / "runs", "--set", "train.max_steps=2", "--set", "train.eval_steps=0"),
        timeout=120 * slowness(),
    )
    assert ran.code in (0, 1, 2), what
    written = {p: p.read_bytes() for p in (root / "runs").rglob("*") if p.is_file()}
    logs = b"".join(content for p, content in written.items() if p.name == "host.log").decode(
        "utf-8", "replace"
    )
    shown = ran.out + ran.err
    found = [w for w in (*WRONG, SECRET) if w in shown or (w in logs and w != "Traceback")]
    assert not found, f"{what}\n{shown}"  # the log may have the traceback of a StudioError
    assert not [p for p, content in written.items() if SECRET.encode() in content], what


@pytest.fixture(autouse=True)
def less_patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(chats, "SECONDS", 1.0)
    monkeypatch.setattr(chats, "PATIENCE_S", 3.0)
    yield
    chats._ended.clear()
    chats._wasted.clear()


@pytest.mark.parametrize("part", range(6))
def test_changed_tokenizers_and_templates_give_a_result_or_a_sentence(
    part: int, sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(part * 10, part * 10 + 10):
        used(*case(sound, tmp_path / "case", seed, FILES), capsys)


@pytest.mark.slow(seconds=150, order=2)
@pytest.mark.parametrize("part", range(10))
def test_many_changed_model_folders(
    part: int, sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(1000 + part * 50, 1050 + part * 50):
        used(*case(sound, tmp_path / "case", seed, (*FILES, *CONFIGS)), capsys)


@pytest.mark.slow(seconds=30, order=2)
@pytest.mark.parametrize("seed", range(2000, 2050))
def test_runs_of_changed_model_folders_end(seed: int, sound: Path, tmp_path: Path) -> None:
    run_ends(*case(sound, tmp_path / "case", seed, (*FILES, *CONFIGS)))


# ------------------------------------------------------------------ configs, weights, links, odd files


def damaged_case(sound: Path, root: Path, seed: int) -> tuple[Path, str]:
    """A project whose model folder has other configs and weights, links and odd files."""
    return root, f"seed {seed}: {mutate(copied(sound, root), root, seed)}"


@pytest.mark.parametrize("part", range(3))
def test_damaged_folders_give_a_result_or_a_sentence(
    part: int, sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``tests/studio/test_mutated_models.py`` has more of them, without tokens."""
    for seed in range(part * 10, part * 10 + 10):
        used(*damaged_case(sound, tmp_path / "case", seed), capsys)


@pytest.mark.slow(seconds=90, order=2)
@pytest.mark.parametrize("part", range(10))
def test_many_damaged_folders(
    part: int, sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(3000 + part * 50, 3050 + part * 50):
        used(*damaged_case(sound, tmp_path / "case", seed), capsys)


@pytest.mark.slow(seconds=18, order=2)
@pytest.mark.parametrize("seed", range(4000, 4050))
def test_runs_of_damaged_folders_end_and_take_nothing_from_outside(
    seed: int, sound: Path, tmp_path: Path
) -> None:
    run_ends(*damaged_case(sound, tmp_path / "case", seed))
