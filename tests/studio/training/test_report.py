"""The data report on rows whose faults are known: each is found at its line, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from studio.data.canonical import content_hash
from studio.data.window import open_window
from studio.graph.registry import load_registry
from studio.node_settings.dataset import DatasetSettings
from studio.preview.report import DataReport, report_from_json
from studio.runs.plan import Plan, Step
from studio.runs.token_request import TokenRequest
from studio.training.data.by_number import Item, WindowRows
from studio.training.data.rows import prepare_rows
from studio.training.report.make import ReportMaker, histogram
from studio.training.report.near_duplicates import NearDuplicates
from studio.training.report.row_checks import damage, role_error
from studio.training.report.row_index import RowIndex
from studio.training.report.scripts import Scripts
from studio.training.tokens.encoder import Encoder, open_rows
from studio.values import DatasetValue
from tests.studio.training.steps import Recorder, make_context
from tests.tiny import make_tiny_tokenizer

LENGTH = 400
WORDS = (
    "oak",
    "pine",
    "river",
    "stone",
    "bread",
    "hammer",
    "nurse",
    "violin",
    "harbour",
    "candle",
    "meadow",
    "lantern",
)


def _story(start: int, words: int = 14) -> str:
    """Text that shares no three words in a row with that of another start."""
    return " ".join(WORDS[(start * 5 + i * (start + 1)) % 12] + str(start) for i in range(words))


def _turns(*said: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in said]


def _clean(number: int) -> list[dict[str, str]]:
    return _turns(("user", _story(number)), ("assistant", f"answer {number} é"))


def write_rows(folder: Path, rows: list[Any]) -> Path:
    """Rows that are messages, or whole lines, each on a line of its own."""
    lines = [
        r if isinstance(r, str) else json.dumps({"messages": r}, ensure_ascii=False) for r in rows
    ]
    path = folder / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def report_on(
    path: Path,
    *,
    max_length: int = LENGTH,
    longest_taken: int | None = None,
    long_text: str = "cut",
    tokenizer: Any = None,
    **dataset: Any,
) -> DataReport:
    """The report of a file under these settings of the Dataset node."""
    settings = DatasetSettings(source=str(path), **{"validation_fraction": 0.0, **dataset})
    step = Step("data", "dataset", 2, "Dataset", settings.model_dump(mode="json"), {}, "")
    request = TokenRequest(
        Plan("p", path.parent, (step,)),
        "data",
        "dataset",
        step,
        "Train",
        "train",
        {"max_length": max_length, "train_on": "answers"},
    )
    with open_window(settings, path.parent, load_registry().variants["format"]) as window:
        rows = WindowRows("Dataset", window)
        encoder = Encoder(tokenizer or make_tiny_tokenizer(), max_length, long_text=long_text)
        maker = ReportMaker(request, rows, encoder, RowIndex(rows.count), longest_taken)
        *_, last = (said for said in maker.run() if said is not None)
    assert last[0] == "result"
    return report_from_json(json.loads(json.dumps(last[1]["report"])))


def make_report(folder: Path, rows: list[Any], **more: Any) -> DataReport:
    """The report of these rows."""
    return report_on(write_rows(folder, rows), **more)


def lines_of(report: DataReport) -> Mapping[str, list[int]]:
    """The lines that each finding names."""
    return {f.code: [p.line for p in f.rows] for f in report.findings}


def test_clean_rows_have_no_findings(tmp_path: Path) -> None:
    report = make_report(tmp_path, [_clean(n) for n in range(30)], validation_fraction=0.2)
    assert report.findings == ()
    assert (report.rows, report.train_rows, report.validation_rows) == (30, 24, 6)
    assert report.complete
    assert report.scripts[0].name == "Latin"
    assert sum(report.histogram.counts) == 30
    assert 0 < report.trained_tokens < report.tokens_per_epoch < report.tokens


def test_every_fault_is_found_at_its_line(tmp_path: Path) -> None:
    rows = [_clean(n) for n in range(12)]
    near = " ".join(f"word{n}" for n in range(36))
    dirty = {
        "zero_trained": _turns(("assistant", _story(21)), ("user", "and then?")),
        "empty_answer": _turns(("user", _story(22)), ("assistant", " ")),
        "one_token_answer": _turns(("user", _story(23)), ("assistant", "x")),
        "cut_answer": _turns(("user", _story(24)), ("assistant", "long " * 100)),
        "two_users": _turns(("user", _story(25)), ("user", "again"), ("assistant", "y25 z")),
        "encoding": _turns(("user", _story(26)), ("assistant", "cafÃ© 26")),
        "replaced": _turns(("user", _story(27)), ("assistant", "caf\ufffd 27")),
        "duplicate": _clean(3),
        "near": _turns(("user", near), ("assistant", "something 28")),
        "near_again": _turns(("user", near + " more"), ("assistant", "something 28")),
    }
    rows += list(dirty.values())
    report = make_report(tmp_path, rows)
    at = {name: 13 + place for place, name in enumerate(dirty)}
    assert lines_of(report) == {
        "zero_trained": [at["zero_trained"]],
        "role_error": [at["zero_trained"], at["two_users"]],
        "empty_answer": [at["empty_answer"]],
        "one_token_answer": [at["one_token_answer"]],
        "cut_answer": [at["cut_answer"]],
        "cut_row": [at["cut_answer"]],
        "encoding": [at["encoding"], at["replaced"]],
        "duplicate": [at["duplicate"]],
        "near_duplicate": [at["near_again"]],
    }
    found = {f.code: f for f in report.findings}
    assert found["duplicate"].rows[0].other == 4
    assert found["near_duplicate"].rows[0].other == at["near"]
    assert (report.histogram.cut, report.histogram.end_lost) == (1, 1)
    assert report.longest[0].line == at["cut_answer"]


def test_a_longer_max_length_is_offered_and_mends(tmp_path: Path) -> None:
    rows = [_clean(n) for n in range(10)] + [
        _turns(("user", "a"), ("assistant", "long " * 100 + str(n))) for n in range(2)
    ]
    report = make_report(tmp_path, rows)
    fix = report.fix("raise_max_length")
    assert fix is not None
    (change,) = fix.changes
    assert (change.node, change.setting) == ("train", "max_length")
    assert change.value > LENGTH
    again = make_report(tmp_path, rows, max_length=change.value)
    assert "cut_row" not in lines_of(again)
    small = make_report(tmp_path, rows, longest_taken=LENGTH)
    assert small.fix("raise_max_length") is None  # the model takes no more


def test_leaks_name_the_validation_row_and_its_twin(tmp_path: Path) -> None:
    rows = [_clean(n % 20) for n in range(40)]  # every row twice
    report = make_report(tmp_path, rows, validation_fraction=0.2)
    leak = next(f for f in report.findings if f.code == "leak")
    assert 0 < leak.count <= 8
    for place in leak.rows:
        assert abs(place.number - place.other) == 20
    assert next(f for f in report.findings if f.code == "duplicate").count == 20


def test_a_near_leak_names_the_validation_row_whichever_comes_first(tmp_path: Path) -> None:
    """``other`` is the row that is trained on."""
    words = " ".join(f"word{i}" for i in range(60))
    near, again = (_turns(("user", words + end), ("assistant", "yes")) for end in ("", " more"))
    for number, sides in enumerate((("validation", "train"), ("train", "validation"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        rows = [
            json.dumps({"messages": row, "side": side})
            for row, side in zip((near, again), sides, strict=True)
        ]
        report = make_report(folder, rows, split_mode="column", split_column="side")
        (leak,) = (f for f in report.findings if f.code == "near_leak")
        (place,) = leak.rows
        assert (place.number, place.other) == ((1, 2) if number == 0 else (2, 1))


def test_a_leak_that_moves_to_training_is_no_near_leak(tmp_path: Path) -> None:
    """Row 1 is moved because row 3 is the same, so that row 2 is only nearly the same as a trained row."""
    words = " ".join(f"word{i}" for i in range(36))
    rows = [
        json.dumps({"messages": _turns(("user", words + end), ("assistant", "yes")), "side": side})
        for end, side in (("", "validation"), (" more", "train"), ("", "train"))
    ]
    rows.append(json.dumps({"messages": _clean(1), "side": "validation"}))
    split: dict[str, Any] = {"split_mode": "column", "split_column": "side"}
    assert "near_leak" in lines_of(make_report(tmp_path, rows, **split))
    found = lines_of(make_report(tmp_path, rows, drop_validation_leaks=True, **split))
    assert found == {"duplicate": [3], "near_duplicate": [2]}


def test_the_only_rows_of_a_large_file_are_on_both_sides_as_in_the_run(tmp_path: Path) -> None:
    """Of 2,100 rows only the last five are used; their positions make all of them training rows."""
    used = (*range(20), *range(2095, 2100))
    path = write_rows(tmp_path, [_clean(n) if n in used else "{broken" for n in range(2100)])
    settings = {"validation_fraction": 0.1, "on_bad_rows": "skip", "drop_rows": "1-20"}
    report = report_on(path, **settings)
    assert (report.train_rows, report.validation_rows) == (4, 1)
    _check_with_the_dataset_step(tmp_path / "run", path, report, settings)


def test_every_fix_of_the_dataset_node_mends_what_it_is_for(tmp_path: Path) -> None:
    rows: list[Any] = [_clean(n % 20) for n in range(40)]
    rows[4] = "{oops"
    rows[9] = _turns(("user", _story(99)), ("assistant", "cafÃ© 9"))
    path = write_rows(tmp_path, rows)
    settings: dict[str, Any] = {"validation_fraction": 0.2}
    wanted = {
        "bad_row": "skip_bad_rows",
        "leak": "leaks_to_train",
        "encoding": "drop_encoding",
        "duplicate": "deduplicate",
    }
    for code, fix_id in wanted.items():
        report = report_on(path, **settings)
        finding = next(f for f in report.findings if f.code == code)
        assert finding.fix is not None
        assert finding.fix.id == fix_id
        settings.update({c.setting: c.value for c in finding.fix.changes})
        after = report_on(path, **settings)
        assert [f for f in after.findings if f.code == code and f.severity != "warning"] == []
        assert code == "bad_row" or code not in lines_of(after)
        _check_with_the_dataset_step(tmp_path / fix_id, path, after, settings)
    assert (after.bad_rows, after.left_out) == (1, 19)
    assert after.train_rows + after.validation_rows == 20


def _check_with_the_dataset_step(
    folder: Path, path: Path, report: DataReport, settings: dict[str, Any]
) -> None:
    """The step itself must find as many rows for each side."""
    folder.mkdir()
    context = make_context(folder, Recorder())
    value = prepare_rows(context, DatasetSettings(source=str(path), **settings))
    assert (value.train_rows, value.validation_rows) == (report.train_rows, report.validation_rows)


def test_few_rows_are_on_the_sides_that_the_dataset_step_gives_them(tmp_path: Path) -> None:
    for count, fraction in ((2, 0.1), (3, 0.9), (7, 0.02), (30, 0.05)):
        path = write_rows(tmp_path, [_clean(n) for n in range(count)])
        report = report_on(path, validation_fraction=fraction)
        _check_with_the_dataset_step(
            tmp_path / f"{count}", path, report, {"validation_fraction": fraction}
        )


def made_and_shown(
    wanted: DatasetSettings, root: Path
) -> tuple[DatasetValue, set[tuple[str, int]], list[Item]]:
    """What the step makes of the data, with split and line of its rows, and what the views show of it."""
    value = prepare_rows(make_context(root, Recorder()), wanted)
    made = {
        (split, int(line))
        for split in ("train", "validation")
        if getattr(value, f"{split}_rows")
        for line in open_rows(Path(value.path) / split)["line"]
    }
    with open_window(wanted, root, load_registry().variants["format"]) as window:
        shown = WindowRows("Dataset", window)
        return value, made, list(shown.rows(1, shown.count))


@pytest.mark.parametrize(
    "settings",
    [
        {"validation_fraction": 0.2},
        {"split_mode": "count", "validation_count": 12},
        {"split_mode": "count", "validation_count": 1000},
        {"split_mode": "group", "group_column": "who", "validation_fraction": 0.3},
        {"split_mode": "column", "split_column": "side"},
    ],
)
def test_rows_that_are_left_out_move_no_other_one_from_what_is_shown(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """Bad rows, dropped rows and rows whose side is not said, in every mode of the split."""
    rows: list[Any] = []
    for n in range(60):
        row: dict[str, Any] = {
            "messages": _clean(n),
            "who": f"w{n // 2}",
            "side": "val" if n % 5 else "train",
        }
        if n % 7 == 3:
            row["messages"] = _turns(("user", "nobody answers"))
        if n % 11 == 5:
            del row["who"], row["side"]
        rows.append(json.dumps(row) if n % 13 else "{broken")
    path = write_rows(tmp_path, rows)
    settings = {**settings, "drop_rows": "2, 30-33, 41", "on_bad_rows": "skip"}
    wanted = DatasetSettings(source=str(path), **settings)
    value, made, items = made_and_shown(wanted, tmp_path)
    used = {(i.split, i.line) for i in items if i.row is not None and i.split != "left_out"}
    assert used == made
    report = report_on(path, **settings)
    assert report.bad_rows == value.skipped


@pytest.mark.parametrize(
    "settings",
    [
        {"split_mode": "count", "validation_count": 7},
        {"split_mode": "count", "validation_count": 1000},
        {"validation_fraction": 0.3},
        {"validation_fraction": 0.01},
    ],
)
@pytest.mark.parametrize("different", [2, 3, 15, 40])
def test_sides_are_those_of_the_step_where_duplicates_are_left_out(
    settings: dict[str, Any], different: int, tmp_path: Path
) -> None:
    """A duplicate takes no other row's place on a side, and no side of few rows is left empty."""
    path = write_rows(tmp_path, [_clean(n * n % different) for n in range(60)])
    wanted = DatasetSettings(source=str(path), deduplicate=True, **settings)
    value, made, items = made_and_shown(wanted, tmp_path)
    seen: set[int] = set()
    first = [i for i in items if (c := content_hash(i.row or {})) not in seen and not seen.add(c)]  # type: ignore[func-returns-value]
    assert {(i.split, i.line) for i in first} == made
    report = report_on(path, deduplicate=True, **settings)
    assert (report.train_rows, report.validation_rows) == (value.train_rows, value.validation_rows)


def test_nothing_trained_is_an_error(tmp_path: Path) -> None:
    rows = [_turns(("assistant", _story(n)), ("user", "and?")) for n in range(4)]
    report = make_report(tmp_path, rows)
    assert [f.code for f in report.errors] == ["nothing_trained"]
    assert report.trained_share == 0


def test_an_answer_that_begins_behind_the_max_length_is_not_trained(tmp_path: Path) -> None:
    """The answer is token 21."""
    row = _turns(("user", "a"), ("assistant", "b"))
    trained = [make_report(tmp_path, [row], max_length=n).trained_share > 0 for n in (20, 21)]
    assert trained == [False, True]


def test_rows_that_cannot_be_read_say_what_to_do_and_most_of_them_are_not_left_out(
    tmp_path: Path,
) -> None:
    (few,) = make_report(tmp_path, [_clean(1), "{", _clean(2)]).findings
    assert (few.code, few.fix is not None) == ("bad_row", True)
    assert few.rows[0].note.endswith("Correct or remove that line.")
    found = make_report(tmp_path, [_clean(1), "{", "{", "{"]).findings
    assert [f.fix for f in found if f.code == "bad_row"] == [None]


def test_one_answer_again_and_again(tmp_path: Path) -> None:
    rows = [_turns(("user", _story(n)), ("assistant", "I do not know.")) for n in range(20)]
    report = make_report(tmp_path, rows)
    assert report.answers[0].text == "I do not know."
    assert report.answers[0].count == 20
    assert "repeated_answer" in lines_of(report)


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("plain", ""),
        ("café Ünïcödé “quoted” – dash", ""),
        ("ÂNGELA Ãngela São", ""),
        ("日本語 и русский", ""),
        ("cafÃ©", "another encoding"),
        ("itâ€™s", "another encoding"),
        ("dollar Â£5", "another encoding"),
        ("ðŸ˜€", "another encoding"),
        ("bell\x07", "U+0007"),
        ("gone \ufffd", "replacement"),
    ],
)
def test_damaged_characters(text: str, sign: str) -> None:
    assert sign in damage(text)
    assert bool(damage(text)) == bool(sign)


@pytest.mark.parametrize(
    ("roles", "words"),
    [
        ("system user assistant", ""),
        ("user assistant user assistant", ""),
        ("user call tool assistant", ""),
        ("user call tool tool assistant", ""),
        ("user call", ""),
        ("user written tool assistant", ""),
        ("user assistant tool assistant", "without a tool call"),
        ("user call user assistant", "instead of a result"),
        ("user user assistant", "two user messages"),
        ("user assistant assistant", "two assistant"),
        ("user", "no assistant"),
        ("user assistant user", "no answer"),
        ("assistant user assistant", "first message is from the assistant"),
        ("user tool assistant", "follows a user message"),
        ("user system assistant", "not the first"),
        ("tool assistant", "first message is a tool result"),
    ],
)
def test_roles_out_of_order(roles: str, words: str) -> None:
    known: dict[str, dict[str, Any]] = {
        "call": {"role": "assistant", "content": "", "extra": '{"tool_calls": [{}]}'},
        "written": {"role": "assistant", "content": '<tool_call>{"name": "add"}</tool_call>'},
    }
    found = role_error(
        {"messages": [known.get(r, {"role": r, "content": "x"}) for r in roles.split()]}
    )
    assert words in found
    assert bool(found) == bool(words)


def test_near_duplicates_are_found_and_different_rows_are_not() -> None:
    near = NearDuplicates()
    texts = [_story(n, 60) for n in range(60)]
    texts.insert(40, texts[7].replace("oak7", "elm", 1))
    texts.append("日本語の文章がここにあります。とても長い文章です。" * 2)
    texts.append("日本語の文章がここにあります。とても長い文章です。" * 2 + "終わり")
    texts += ["short text"] * 2  # too short to judge
    for number, text in enumerate(texts):
        near.add(number, text)
    pairs = {(p.first, p.second) for found in near.pairs() for p in found}
    assert (7, 40) in pairs
    assert (61, 62) in pairs
    assert len(pairs) == 2


def test_scripts_by_share() -> None:
    scripts = Scripts()
    scripts.add("abcd где 12 !? 漢字")
    assert [(s.name, round(s.share, 2)) for s in scripts.shares()] == [
        ("Latin", 0.44),
        ("Cyrillic", 0.33),
        ("Han", 0.22),
    ]


def test_the_histogram_counts_every_row_and_ends_with_the_longest() -> None:
    import numpy as np

    lengths = np.array([*range(1, 200), 5000], dtype=np.int64)
    found = histogram(lengths, 128, 73, 0)
    assert sum(found.counts) == 200
    assert len(found.edges) == len(found.counts) + 1 <= 40
    assert found.edges[-1] == 5001
    assert list(found.edges) == sorted(set(found.edges))


def test_how_many_rows_are_longer_than_any_length_is_exact() -> None:
    import numpy as np

    lengths = np.random.default_rng(1).integers(1, 9000, 20_000)
    found = histogram(lengths, 128, 0, 0)
    assert len(found.lengths) <= 1000
    assert found.grain in (8, 16)
    for length in range(0, 9100, found.grain * 7):
        assert found.longer_than(length) == int((lengths > length).sum())
    few = histogram(lengths[:500], 128, 0, 0)
    assert few.grain == 1
    assert few.longer_than(777) == int((lengths[:500] > 777).sum())
