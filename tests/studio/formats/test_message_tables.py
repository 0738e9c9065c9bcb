"""Tables with one message per row become conversations, the same in every view of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from studio.data.check import notes_of, options_of
from studio.data.reading.reader import read_rows
from studio.data.window import open_window
from studio.errors import StudioError
from studio.graph.registry import load_registry
from studio.node_settings.dataset import DatasetSettings

FORMATS = load_registry().variants["format"]
Turns = list[tuple[str, str]]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A JSONL or CSV file."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        return path
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def conversations(path: Path, **settings: Any) -> list[Turns]:
    """The turns of each row, from the stream and by number, which must agree."""
    chosen = DatasetSettings(source=str(path), **settings)
    with open_window(chosen, path.parent, FORMATS) as window:
        found = window.rows(1, window.count())
        made = [window.chosen.convert(row, row.path) for row in found]
        assert [window.rows(n, n)[0].data for n in range(1, window.count() + 1)] == [
            r.data for r in found
        ]
    streamed = list(read_rows(path, options_of(chosen)))
    assert [(r.line, r.data) for r in streamed] == [(r.line, r.data) for r in found]
    return [[(m["role"], m["content"]) for m in row["messages"]] for row in made]


def chat(number: int) -> list[dict[str, Any]]:
    return [
        {"conversation_id": f"c{number}", "role": "user", "content": f"Question {number}?"},
        {"conversation_id": f"c{number}", "role": "assistant", "content": f"Answer {number}."},
    ]


def turns(number: int) -> Turns:
    return [("user", f"Question {number}?"), ("assistant", f"Answer {number}.")]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_messages_are_joined_by_conversation(tmp_path: Path, suffix: str) -> None:
    rows = [m for n in range(6) for m in chat(n)]
    path = write(tmp_path / f"chat{suffix}", rows)
    assert conversations(path) == [turns(n) for n in range(6)]


def test_interleaved_messages_are_sorted_by_their_order(tmp_path: Path) -> None:
    rows = [{**chat(n)[i], "turn": i * 10, "thread": None} for i in (1, 0) for n in (0, 1, 2)]
    path = write(tmp_path / "chat.jsonl", rows)
    assert conversations(path) == [turns(0), turns(1), turns(2)]


@pytest.mark.parametrize(
    ("conversation", "role", "content"),
    [
        ("Thread ID", "Sender", "Message"),
        ("session", "speaker", "utterance"),
        ("chat_id", "from", "value"),
        ("dialogue_id", "author_role", "text"),
        ("ConversationID", "Role", "Text"),
        ("Ticket ID", "author-type", "body"),
        ("CASE_ID", "Sender Type", "Msg"),
    ],
)
def test_usual_names(tmp_path: Path, conversation: str, role: str, content: str) -> None:
    rows = [
        {conversation: m["conversation_id"], role: m["role"], content: m["content"]}
        for n in range(3)
        for m in chat(n)
    ]
    assert conversations(write(tmp_path / "chat.csv", rows)) == [turns(n) for n in range(3)]


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("sent_at", ["2026-01-01 9:00", "2026-01-01 10:05", "2026-01-02 8:00", "2026-01-10 7:00"]),
        (
            "created_at",
            ["2026-01-01T09:00:00Z", "2026-01-01T09:00:00.5Z", "2026-01-01T09:01Z", "2027-01-01"],
        ),
        ("ts", ["1700000000.000100", "1700000000.000200", "1700000001", "1800000000"]),
        ("turn_idx", ["turn_2", "turn_9", "turn_10", "turn_11"]),
        ("Message Number", ["9", "10", "100", "1000"]),
    ],
)
def test_messages_are_sorted_by_time_or_number(tmp_path: Path, name: str, times: list[str]) -> None:
    rows = [{**m, name: t} for m, t in zip([*chat(0), *chat(1)], times, strict=True)]
    rows = [{**m, "conversation_id": "c"} for m in rows]
    path = write(tmp_path / "chat.csv", rows[::-1])
    assert conversations(path) == [[*turns(0), *turns(1)]]


@pytest.mark.parametrize(
    "times",
    [["1/9/2026 9:00", "1/10/2026 9:00"], ["9:05 am", "1:00 pm"], ["nan", "1"], [10**400, 1]],
)
def test_a_time_that_cannot_be_sorted_leaves_the_order_of_the_file(
    tmp_path: Path, times: list[Any]
) -> None:
    rows = [{**m, "timestamp": t} for m, t in zip(chat(0), times, strict=True)]
    path = write(tmp_path / "chat.jsonl", rows)
    assert conversations(path) == [turns(0)]
    (warning,) = notes_of(path, options_of(DatasetSettings()))
    assert warning.code == "order_of_file"
    assert f"column “timestamp” holds values such as “{str(times[0])[:40]}”" in warning


@pytest.mark.parametrize(
    ("asks", "answers"),
    [
        ("Customer", "Agent"),
        ("client", "Support Agent"),
        ("end-user", "AI"),
        ("visitor", "support"),
    ],
)
def test_other_names_of_the_roles(tmp_path: Path, asks: str, answers: str) -> None:
    names = {"user": asks, "assistant": answers}
    rows = [{**m, "role": names[m["role"]]} for n in range(2) for m in chat(n)]
    assert conversations(write(tmp_path / "chat.jsonl", rows)) == [turns(0), turns(1)]


def test_columns_that_all_messages_share_belong_to_the_conversation(tmp_path: Path) -> None:
    rows = [{**m, "system": "Be brief.", "tokens": 3} for m in chat(0)]
    assert conversations(write(tmp_path / "chat.jsonl", rows)) == [
        [("system", "Be brief."), *turns(0)]
    ]


def tree(**ranks: int) -> list[dict[str, Any]]:
    """Two answers to one question; the first one is asked further and answered."""
    nodes = [
        ("q", None, "prompter", "Q"),
        ("a1", "q", "assistant", "A1"),
        ("a2", "q", "assistant", "A2"),
        ("q2", "a1", "prompter", "Q2"),
        ("b", "q2", "assistant", "B"),
        ("q3", "b", "prompter", "Q3"),
    ]
    return [
        {"message_id": i, "parent_id": p, "role": r, "text": t, "rank": ranks.get(i)}
        for i, p, r, t in nodes
    ]


def test_a_message_tree_has_a_row_for_each_path(tmp_path: Path) -> None:
    long = [("user", "Q"), ("assistant", "A1"), ("user", "Q2"), ("assistant", "B")]
    short = [("user", "Q"), ("assistant", "A2")]
    assert conversations(write(tmp_path / "tree.jsonl", tree())) == [long, short]


def test_a_ranked_message_tree_has_its_best_path(tmp_path: Path) -> None:
    path = write(tmp_path / "tree.jsonl", tree(a1=1, a2=0))
    assert conversations(path) == [[("user", "Q"), ("assistant", "A2")]]


def test_what_was_joined_and_left_out_is_stated(tmp_path: Path) -> None:
    path = write(tmp_path / "tree.jsonl", tree())
    noted: list[str] = []
    from dataclasses import replace

    list(read_rows(path, replace(options_of(DatasetSettings()), note=noted.append)))
    assert (
        "tree.jsonl has one message per row: 6 messages were joined into 2 conversations." in noted
    )
    assert "1 message of tree.jsonl is left out: no answer follows it." in noted


def test_a_message_without_a_conversation_is_a_bad_row(tmp_path: Path) -> None:
    rows = [*chat(0), {**chat(1)[0], "conversation_id": None}, *chat(2)]
    path = write(tmp_path / "chat.jsonl", rows)
    found = list(read_rows(path, strict=False))
    assert [len(r.data.get("messages", ())) for r in found] == [2, 2, 0]
    assert "line 3 of chat.jsonl has nothing in column “conversation_id”" in str(found[2].error)


def test_rows_can_be_kept_as_examples_or_must_be_messages(tmp_path: Path) -> None:
    path = write(tmp_path / "chat.jsonl", chat(0))
    kept = list(read_rows(path, options_of(DatasetSettings(row_unit="example"))))
    assert [r.data for r in kept] == chat(0)
    other = write(tmp_path / "other.jsonl", [{"prompt": "a", "completion": "b"}])
    with pytest.raises(StudioError, match="does not say which messages belong together"):
        list(read_rows(other, options_of(DatasetSettings(row_unit="message"))))


def test_a_dataset_of_other_shape_is_left_alone(tmp_path: Path) -> None:
    rows = [{"id": 1, "role": "nurse", "text": "A text."}, {"id": 2, "role": "cook", "text": "B"}]
    assert [r.data for r in read_rows(write(tmp_path / "jobs.jsonl", rows))] == rows
