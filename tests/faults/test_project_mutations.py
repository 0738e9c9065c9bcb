"""Project files that were changed at random, through check, estimate and tokens, and some through a run:
there is a result, or a sentence, and never a traceback."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.cli import main
from studio.errors import StudioError
from tests.e2e.studio_cli import studio, write_project, write_rows
from tests.faults.test_model_mutations import tokens
from tests.mutated_models import SECRET, private_file
from tests.timing import slowness
from tests.tiny import make_tiny_model

WRONG = ("Traceback", "bug in LoRA Studio", "Internal error", "failed unexpectedly", "\x1b", SECRET)
TEXTS = (
    *("", " ", "x", "None", "0", "\x1b[31mred\x07", "\u202egnp.exe", "a\nb", "\x00", "\ud800"),
    *("x" * 5000, "../../private", "/dev/stdin", "/proc/self/environ", "~", "%s%n", "{0}", "$HOME"),
    *("hub:nobody/nothing", "CON", "file:///etc/passwd", "🙂" * 300),
)
NUMBERS = (0, -1, 1, 3, 10**9, 10**30, 0.5, -1e308, 1e308, float("nan"), float("inf"))
VALUES: tuple[Any, ...] = (None, True, [], [1, "a", None], {}, {"a": {"b": []}}, *NUMBERS, *TEXTS)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a project, its rows and a tiny model, and a private file beside it."""
    folder = tmp_path_factory.mktemp("projects")
    make_tiny_model(folder / "model", layers=1)
    write_project(folder / "sound.studio", "model", write_rows(folder / "rows.jsonl", 6))
    private_file(folder)
    return folder


def values_in(data: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of the project with one of its keys."""
    for key, value in list(data.items() if isinstance(data, dict) else enumerate(data)):
        yield data, key
        if isinstance(value, (dict, list)):
            yield from values_in(value)


def other_value(chance: random.Random, data: Any) -> str:
    place, key = chance.choice(list(values_in(data)))
    place[key] = chance.choice(VALUES)
    return f"{key!r} = {place[key]!r}"


def other_setting(chance: random.Random, data: Any) -> str:
    """A setting is more often wrong than the frame around it."""
    node = chance.choice(data["nodes"])
    settings = node.setdefault("settings", {})
    name = chance.choice([*settings, "format", "split", "dtype", "quantization", "target_modules"])
    settings[name] = chance.choice(VALUES)
    return f"{node['id']}.{name} = {settings[name]!r}"


def gone(chance: random.Random, data: Any) -> str:
    place, key = chance.choice(list(values_in(data)))
    del place[key]
    return f"without {key!r}"


def renamed(chance: random.Random, data: Any) -> str:
    place, key = chance.choice([(p, k) for p, k in values_in(data) if isinstance(p, dict)])
    place[f"{key}x"] = place.pop(key)
    return f"{key!r} renamed"


def wired_oddly(chance: random.Random, data: Any) -> str:
    """A wire to itself, in a circle, to nothing, twice, or of another type."""
    ids = [n["id"] for n in data["nodes"]]
    ports = ("dataset", "model", "adapter", "report", "nothing", "")
    wire = {
        "from": f"{chance.choice(ids)}.{chance.choice(ports)}",
        "to": f"{chance.choice([*ids, 'nobody'])}.{chance.choice(ports)}",
    }
    data["wires"] += [wire] * chance.choice((1, 1, 2))
    return f"wire {wire}"


def doubled(chance: random.Random, data: Any) -> str:
    node = copy.deepcopy(chance.choice(data["nodes"]))
    if chance.random() < 0.5:
        node["id"] += "2"
    data["nodes"].append(node)
    return f"{node['id']} again"


def other_type(chance: random.Random, data: Any) -> str:
    types = ["dataset", "base_model", "lora", "train", "merge", "export", "evaluate", "mix"]
    node = chance.choice(data["nodes"])
    node["type"] = chance.choice([*types, "resize", "unheard-of"])
    return f"{node['id']} is {node['type']}"


def many(chance: random.Random, data: Any) -> str:
    node = chance.choice(data["nodes"])
    count = chance.choice((50, 300))
    data["nodes"] += [{**node, "id": f"{node['id']}-{i}"} for i in range(count)]
    return f"{count} of {node['id']}"


CHANGES: tuple[Callable[[random.Random, Any], str], ...] = (
    *(other_value, other_setting, other_setting, gone, renamed, wired_oddly, doubled, other_type),
    many,
)


def broken_text(chance: random.Random, text: str) -> str:
    """The file itself: cut, with another character, nested too deeply, in another encoding."""
    at = chance.randrange(len(text))
    return chance.choice(
        (
            text[:at],
            text[:at] + chance.choice('{}[]",:\x00\x1b0') + text[at + 1 :],
            "[" * 100_000,
            text.replace("{", '{"a":' * 3 + "{", 1),
            text + text,
            "\ufeff" + text,
            "",
            "null",
        )
    )


def mutated(sound: Path, file: Path, seed: int) -> str:
    """Write a changed project; returns what was changed."""
    chance = random.Random(seed)
    data = json.loads((sound / "sound.studio").read_text(encoding="utf-8"))
    what = [f"seed {seed}"]
    for _ in range(chance.choice((1, 1, 2, 3))):
        try:
            what.append(chance.choice(CHANGES)(chance, data))
        except (KeyError, TypeError, AttributeError, IndexError):  # an earlier change removed it
            break
    text = json.dumps(data)
    if chance.random() < 0.1:
        text = broken_text(chance, text)
        what.append("broken text")
    encoding = chance.choice(("utf-8", "utf-8", "utf-8", "utf-16", "latin-1"))
    file.write_bytes(text.encode(encoding, "replace"))
    return ", ".join(what)[:600]


def used(file: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("check", "estimate", "tokens"):
        code = 0
        try:
            if command == "tokens":
                tokens(file)
            else:
                code = main([command, str(file)])
        except StudioError:
            continue
        except BaseException as error:
            error.add_note(f"{command}: {what}")
            raise
        shown = "".join(capsys.readouterr())
        assert code in (0, 1, 2), f"{command}: {what}\n{shown}"
        found = [w for w in WRONG if w in shown]
        assert not found, f"{command}: {found} {what}\n{shown}"
        assert max(map(len, shown.splitlines()), default=0) < 5000, f"{command}: {what}"


@pytest.mark.parametrize("part", range(3))
def test_changed_projects_give_a_result_or_a_sentence(
    part: int, sound: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = sound / f"part-{part}.studio"
    for seed in range(part * 10, part * 10 + 10):
        used(file, mutated(sound, file, seed), capsys)


@pytest.mark.slow(seconds=12, order=2)
@pytest.mark.parametrize("part", range(10))
def test_many_changed_projects(part: int, sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = sound / f"many-{part}.studio"
    for seed in range(1000 + part * 50, 1050 + part * 50):
        used(file, mutated(sound, file, seed), capsys)


@pytest.mark.slow(seconds=15, order=2)
@pytest.mark.parametrize("seed", range(2000, 2050))
def test_runs_of_changed_projects_end(seed: int, sound: Path, tmp_path: Path) -> None:
    file = sound / f"run-{seed}.studio"
    what = mutated(sound, file, seed)
    ran = studio(
        "run",
        file,
        *("--runs", tmp_path / "runs", "--set", "train.max_steps=2", "--set", "train.eval_steps=0"),
        timeout=120 * slowness(),
        HOME=str(tmp_path),  # a folder to export to may be “~”
    )
    assert ran.code in (0, 1, 2), what
    assert not [w for w in WRONG if w in ran.out + ran.err], f"{what}\n{ran.out}{ran.err}"
    written = [p for p in (tmp_path / "runs").rglob("*") if p.is_file()]
    assert not [p for p in written if SECRET.encode() in p.read_bytes()], what
