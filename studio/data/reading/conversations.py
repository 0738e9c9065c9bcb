"""Tables with one message per row: groups the rows of a file into conversations.

A conversation is all rows with the same conversation id, in the order of an order column (numbers, or
dates that begin with the year) or of the file. Where rows name their parent message, a conversation is
the path from the first message to an answer that nobody continued; where siblings are ranked, only the
best-ranked path of each tree is used.
The rows are sorted by SQLite in a temporary database, so that memory stays bounded.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from studio.data.columns import has_content, is_bookkeeping, named, normalized
from studio.data.reading.source import Note, ReadOptions, SourceRow, bad_file

_CONVERSATION = (
    "conversation_id", "conversation", "conv_id", "thread_id", "thread", "session_id", "session", "chat_id",
    "dialog_id", "dialogue_id", "dialog", "dialogue", "message_tree_id", "ticket_id", "ticket", "case_id",
    "interaction_id", "thread_ts",
)  # fmt: skip
_ROLE = (
    "role", "message_role", "author_role", "author_type", "sender_role", "sender_type", "speaker_role",
    "from", "speaker", "sender", "author",
)  # fmt: skip
_PERSON = (*_ROLE, "user", "username", "user_name", "author_id", "sent_by")
_CONTENT = ("content", "text", "message", "value", "body", "utterance", "msg")
_ORDER = (
    "turn", "turn_id", "turn_index", "turn_idx", "turn_number", "turn_no", "message_index", "message_idx",
    "message_number", "message_no", "msg_index", "order", "position", "ordinal", "seq", "seq_no", "sequence",
    "sequence_number", "step", "index", "timestamp", "ts", "time", "datetime", "created_at", "created_utc",
    "created", "sent_at", "sent", "date",
)  # fmt: skip
_ID = ("message_id", "msg_id", "id", "uuid")
_PARENT = ("parent_id", "parent_message_id", "parent", "reply_to")
_RANK = ("rank",)
_ASKS = ("system", "user", "human", "prompter", "customer", "client")
_ANSWERS = (
    "assistant", "gpt", "chatgpt", "bot", "model", "ai", "ai assistant", "agent", "support agent", "support",
)  # fmt: skip
_YEAR_FIRST = re.compile(r"\d{4}\D\d{1,2}\D\d{1,2}(?:[T ]+\d{1,2}(?::\d{1,2}){1,2})?")


@dataclass(frozen=True)
class MessageColumns:
    """The columns of a table with one message per row; ``parent`` and ``own`` for message trees."""

    role: str
    content: str
    conversation: str | None = None
    order: str | None = None
    own: str | None = None
    parent: str | None = None
    rank: str | None = None

    @property
    def is_tree(self) -> bool:
        """Whether rows name their parent message."""
        return self.parent is not None and self.own is not None

    @property
    def structure(self) -> frozenset[str]:
        """The columns that say where a message belongs."""
        names = (self.conversation, self.order, self.own, self.parent, self.rank)
        return frozenset(n for n in names if n is not None)


def message_columns(row: Mapping[str, Any]) -> MessageColumns | None:
    """The columns of a row that is one message of a conversation; ``None`` for any other row."""
    columns = tuple(row)
    role, content = _found(columns, _ROLE), _found(columns, _CONTENT)
    if role is None or content is None or not isinstance(row[role], str):
        return None
    if isinstance(row[content], (list, dict)):
        return None
    own, parent = _found(columns, _ID), _found(columns, _PARENT)
    conversation = _found(columns, _CONVERSATION)
    if conversation is not None and isinstance(row[conversation], (list, dict)):
        return None
    if conversation is None and (own is None or parent is None):
        return None
    order = _found(tuple(c for c in columns if c not in (own, conversation)), _ORDER)
    return MessageColumns(role, content, conversation, order, own, parent, _found(columns, _RANK))


def is_lone_message(row: Mapping[str, Any]) -> bool:
    """Whether a row is one message, with a person and a text, but without its conversation."""
    columns = tuple(row)
    content = _found(columns, _CONTENT)
    if message_columns(row) is not None or content is None or not isinstance(row[content], str):
        return False
    person = _found(tuple(c for c in columns if c != content), _PERSON)
    # a “role” is often a profession
    return person is not None and (
        normalized(person) != "role" or str(row[person]).strip().lower() in (*_ASKS, *_ANSWERS)
    )


def _found(columns: tuple[str, ...], names: tuple[str, ...]) -> str | None:
    return named(columns, names[0], names[1:])


class Conversations:
    """The conversations of one file by number, from 0; rows that cannot be read are at the end."""

    def __init__(self, path: Path, columns: MessageColumns, rows: Iterable[SourceRow]) -> None:
        self._path, self._columns = path, columns
        self._bad: list[SourceRow] = []
        self._offset = 0
        self.notes: list[str] = []
        self._db = sqlite3.connect("", check_same_thread=False)  # a temporary file of SQLite's own
        self._db.execute(
            "CREATE TABLE m (seq INTEGER PRIMARY KEY, conv TEXT, ord, line INTEGER, data TEXT)"
        )
        self._tree: dict[str, _Node] = {}
        self._unsorted = ""
        self._db.executemany("INSERT INTO m VALUES (?, ?, ?, ?, ?)", self._stored(rows))
        self._paths = self._make_paths()
        self._tree = {}
        messages = sum(map(len, self._paths))
        joined = len(self._paths)
        self.notes.insert(
            0,
            f"{path.name} has one message per row: {messages} messages were joined into "
            f"{joined} conversation{'' if joined == 1 else 's'}.",
        )

    def close(self) -> None:
        """Delete the temporary database."""
        self._db.close()

    def release(self) -> None:
        """Does nothing: the rows have been read into the temporary database."""

    def count(self, upto: int | None = None) -> int:
        """The number of conversations and of rows that cannot be read."""
        del upto
        return len(self._paths) + len(self._bad)

    def rows(self, first: int, last: int) -> list[SourceRow]:
        """The conversations from ``first`` up to ``last``, exclusive."""
        last = min(last, self.count())
        made = [self._row(path) for path in self._paths[first:last]]
        split = len(self._paths)
        return made + self._bad[max(0, first - split) : max(0, last - split)]

    def _stored(self, rows: Iterable[SourceRow]) -> Iterator[tuple[Any, ...]]:
        c = self._columns
        for seq, row in enumerate(rows):
            self._offset = row.offset
            if row.error is not None:
                self._bad.append(row)
                continue
            data = {k: v for k, v in row.data.items() if k not in c.structure and has_content(v)}
            data[c.content] = row.data.get(c.content)
            conversation = row.data.get(c.conversation) if c.conversation else None
            if c.is_tree:
                self._note_node(seq, row.data)
            elif not has_content(conversation):
                self._bad.append(self._without_conversation(row))
                continue
            order = row.data.get(c.order) if c.order else None
            place = _place(order)
            if place is None and has_content(order):
                self._unsorted = self._unsorted or str(order)
            yield (
                seq,
                str(conversation),
                place,
                row.line,
                json.dumps(data, ensure_ascii=False, default=str),
            )

    def _without_conversation(self, row: SourceRow) -> SourceRow:
        error = bad_file(
            self._path,
            f"has nothing in column “{self._columns.conversation}”, so its conversation is unknown",
            "Fill it in, or remove the row.",
            "no_conversation",
            line=row.line,
        )
        return SourceRow(row.line, {}, row.offset, self._path, error, row.start)

    # ------------------------------------------------------------ trees

    def _note_node(self, seq: int, data: Mapping[str, Any]) -> None:
        c = self._columns
        assert c.own is not None
        assert c.parent is not None
        parent = data.get(c.parent)
        rank = data.get(c.rank) if c.rank else None
        self._tree[str(data.get(c.own))] = _Node(
            seq,
            str(parent) if has_content(parent) else None,
            str(data.get(c.role)).strip().lower() in _ANSWERS,
            float(rank) if isinstance(rank, (int, float)) and rank == rank else None,
        )

    def _make_paths(self) -> list[tuple[int, ...]]:
        """The messages of each conversation."""
        if not self._columns.is_tree:
            if self._unsorted:
                self._db.execute("UPDATE m SET ord = NULL")
                self.notes.append(
                    Note(
                        f"{self._path.name}: the messages of a conversation are in the order of the file, "
                        f"because column “{self._columns.order}” holds values such as "
                        f"“{self._unsorted[:40]}”.",
                        "order_of_file",
                        "row_unit",
                        "If that is not their order, sort the rows, or write numbers or dates such as "
                        "2026-01-31 10:30 into the column.",
                    )
                )
            self._db.execute("CREATE INDEX by_conv ON m (conv, ord IS NULL, ord, seq)")
            order = "SELECT conv, seq FROM m ORDER BY conv, ord IS NULL, ord, seq"
            grouped: dict[str, list[int]] = {}
            for conv, seq in self._db.execute(order):
                grouped.setdefault(conv, []).append(seq)
            return sorted((tuple(seqs) for seqs in grouped.values()), key=min)
        children: dict[str | None, list[str]] = {}
        for own, node in self._tree.items():
            known = node.parent if node.parent in self._tree else None
            children.setdefault(known, []).append(own)
        ranked = any(n.rank is not None for n in self._tree.values())
        paths = [p for root in children.get(None, ()) for p in self._walk(root, children, ranked)]
        lost = len(self._tree) - len({seq for path in paths for seq in path})
        if ranked:
            self.notes.append(
                f"{self._path.name} holds message trees with ranks: of each tree the best-ranked path is used."
            )
        elif lost:
            self.notes.append(
                f"1 message of {self._path.name} is left out: no answer follows it."
                if lost == 1
                else f"{lost} messages of {self._path.name} are left out: no answer follows them."
            )
        return paths

    def _walk(
        self, root: str, children: Mapping[str | None, list[str]], ranked: bool
    ) -> list[tuple[int, ...]]:
        """The paths from a first message to each last answer, or the best-ranked one."""
        found: dict[tuple[int, ...], None] = {}
        waiting: list[tuple[str, tuple[str, ...]]] = [(root, (root,))]
        while waiting:
            own, path = waiting.pop()
            following = children.get(own, [])
            if ranked and following:
                following = [min(following, key=lambda n: (self._tree[n].order, self._tree[n].seq))]
            if not following:
                ended = list(path)
                while ended and not self._tree[ended[-1]].answers:
                    ended.pop()
                if ended:
                    found[tuple(self._tree[n].seq for n in ended)] = None
            waiting += [(n, (*path, n)) for n in reversed(following) if n not in path]
        paths = list(found)
        return [p for p in paths if not any(q[: len(p)] == p and q != p for q in paths)]

    # ------------------------------------------------------------ rows

    def _row(self, seqs: tuple[int, ...]) -> SourceRow:
        """A conversation as a row with messages, and the columns that all its rows share."""
        c = self._columns
        given = []
        for seq in seqs:
            line, data = self._db.execute(
                "SELECT line, data FROM m WHERE seq = ?", (seq,)
            ).fetchone()
            given.append((line, json.loads(data)))
        data_of = [data for _, data in given]
        shared = {
            key: value
            for key, value in data_of[0].items()
            if key not in (c.role, c.content)
            and len(data_of) > 1
            and all(key in d and d[key] == value for d in data_of)
        }
        messages = [
            {
                "role": data.get(c.role),
                "content": data.get(c.content),
                **{
                    k: v
                    for k, v in data.items()
                    if k not in (c.role, c.content) and k not in shared and not is_bookkeeping(k)
                },
            }
            for data in data_of
        ]
        return SourceRow(given[0][0], {"messages": messages, **shared}, self._offset, self._path)


@dataclass(frozen=True)
class _Node:
    seq: int
    parent: str | None
    answers: bool
    rank: float | None

    @property
    def order(self) -> float:
        return float("inf") if self.rank is None else self.rank


def _place(value: Any) -> float | None:
    """The place of a message by its number or time; ``None`` for a value without an order, such as a
    date whose day and month cannot be told apart."""
    text = "" if value is None or isinstance(value, bool) else str(value).strip()
    try:
        number = float(text)
        return number if math.isfinite(number) else None
    except ValueError:
        pass
    numbers = re.findall(r"\d+", text)
    if len(numbers) == 1 and text.endswith(numbers[0]):  # turn_12
        return float(numbers[0])
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        if not _YEAR_FIRST.fullmatch(text):
            return None
        try:
            found = datetime(*map(int, numbers))  # type: ignore[arg-type]
        except ValueError:
            return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def with_conversations(
    path: Path, options: ReadOptions, rows: Iterator[SourceRow], *, quick: bool = False
) -> Iterator[SourceRow]:
    """The rows of a file; messages are grouped into conversations, other rows pass unchanged.

    With ``quick``, ``rows`` are only the first ones, and conversations without an answer are left out:
    it may follow later. Raises ``StudioError`` when ``options`` ask for messages and there are none.
    """
    first: list[SourceRow] = []
    columns = None
    for row in rows:
        first.append(row)
        if row.error is None:
            columns = columns_of(path, row, options)
            break
    if columns is None:
        yield from itertools.chain(first, rows)
        return
    made = Conversations(path, columns, itertools.chain(first, rows))
    try:
        for note in made.notes:
            if not quick or isinstance(note, Note):
                options.note(note)
        found = (made.rows(number, number + 1)[0] for number in range(made.count()))
        if quick:
            everything = list(found)
            answered = [r for r in everything if r.error is not None or _has_answer(r)]
            yield from answered or everything
        else:
            yield from found
    finally:
        made.close()


def columns_of(path: Path, row: SourceRow, options: ReadOptions) -> MessageColumns | None:
    """The columns of a table with one message per row, if it is one and ``options`` allow it."""
    if options.row_unit == "example" or row.error is not None:
        return None
    columns = message_columns(row.data)
    if columns is None and options.row_unit == "message":
        error = bad_file(
            path,
            f"does not say which messages belong together; its columns are {', '.join(row.data)}",
            "One message per row needs the columns conversation_id, role and content.",
            "no_conversation",
        )
        error.field = "row_unit"
        raise error
    return columns


def _has_answer(row: SourceRow) -> bool:
    return any(str(m["role"]).strip().lower() in _ANSWERS for m in row.data["messages"])
