"""Well-known shapes of data: read as what they are, or refused with the name of what they are."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.data.detect import choose_format, detect
from studio.data.reading.source import SourceRow
from studio.data.row_format import RowError
from studio.errors import StudioError
from studio.graph.registry import load_registry

FORMATS = load_registry().variants["format"]
FILE = Path("data.json")
TOOL = {"name": "weather", "description": "d", "parameters": {"type": "object", "properties": {}}}
CALL = {"name": "weather", "arguments": {"city": "Oslo"}}


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def read(row: dict[str, Any], **settings: Any) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """The detected format, the canonical row, and what is not used."""
    given = SourceRow(1, row, 0)
    chosen = choose_format(FILE, "auto", settings, [given], FORMATS)
    canonical, unused = chosen.read(given, FILE)
    return chosen.variant.id, canonical, unused


ASKED, REPLIED = said("user", "Q"), said("assistant", "A")


@pytest.mark.parametrize(
    "row",
    [
        {"problem": "Q", "solution": "A"},
        {"Problem": "Q", "Solution": "A"},
        {"source": "Q", "target": "A"},
        {"document": "Q", "summary": "A"},
        {"article": "Q", "highlights": "A", "id": "x"},
        {"dialogue": "Q", "summary": "A"},
        {"text": "Q", "summary": "A"},
        {"user": "Q", "assistant": "A"},
        {"Human": "Q", "Assistant": "A"},
        {"human": "Q", "bot": "A"},
        {"src": "Q", "tgt": "A"},
        {"Question": "Q", "Answer": "A"},
        {"QUERY": "Q", "Response": "A"},
        {"Instruction": "Q", "Output": "A"},
        {"instruction": "Q", "input": "", "output": "A", "history": []},
        {"prompt": "Q", "completion": "A"},
        {"data": ["Q", "A"], "id": "0"},
        # a pair beside names that say where a row is from
        {"source": "aops", "problem": "Q", "solution": "A"},
        {"source": "cnn", "text": "Q", "summary": "A"},
        {"src": "web", "user": "Q", "assistant": "A"},
        # further spellings
        {"Question:": "Q", "Answer:": "A"},
        {" question ": "Q", "final answer": "A"},
        {"question": "Q", "Solution": "A"},
        {"Problem": "Q", "answer": "A"},
        {"User Query": "Q", "Bot Response": "A"},
        {"user_message": "Q", "assistant_message": "A"},
        {"input_text": "Q", "output_text": "A"},
        {"inputs": "Q", "targets": "A"},
        {"source_text": "Q", "target_text": "A"},
        {"comment": "Q", "reply": "A"},
        {"body": "Q", "TL;DR": "A"},
        {"article": "Q", "abstract": "A"},
        {"Content": "Q", "SUMMARY": "A"},
        {"post": "Q", "tldr": "A"},
        {"transcript": "Q", "summary": "A"},
        {"conversation": [{"human": "Q", "assistant": "A"}]},
        {"conversation": [{"input": "Q", "output": "A"}]},
        {
            "contents": [
                {"role": r, "parts": [{"text": t}]} for r, t in (("user", "Q"), ("model", "A"))
            ]
        },
        {"input": [said("user", "Q")], "output": said("assistant", "A")},
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
        {"messages": "[{'role': 'user', 'content': 'Q'}, {'role': 'assistant', 'content': 'A'}]"},
    ],
    ids=lambda row: "+".join(row),
)
def test_a_question_and_its_answer_by_any_name(row: dict[str, Any]) -> None:
    assert read(row)[1:] == ({"messages": [ASKED, REPLIED]}, ())


@pytest.mark.parametrize("name", ["system", "system_prompt", "System Prompt", "systemMessage"])
@pytest.mark.parametrize(
    "row",
    [
        {"messages": [ASKED, REPLIED]},
        {"prompt": "Q", "completion": "A"},
        {"question": "Q", "answer": "A"},
        {"problem": "Q", "solution": "A"},
        {"instruction": "Q", "output": "A"},
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
    ],
    ids=lambda row: "+".join(row),
)
def test_a_system_message_beside_any_of_them(row: dict[str, Any], name: str) -> None:
    expected = [said("system", "Be brief."), ASKED, REPLIED]
    assert read({**row, name: "Be brief."})[1:] == ({"messages": expected}, ())


@pytest.mark.parametrize(
    "name", ["cot", "reasoning", "thoughts", "Complex_CoT", "chain of thought", "rationale"]
)
@pytest.mark.parametrize(
    "row",
    [
        {"question": "Q", "answer": "A"},
        {"prompt": "Q", "response": "A"},
        {"instruction": "Q", "output": "A"},
        {"Question": "Q", "Response": "A"},
        {"messages": [ASKED, REPLIED]},
    ],
    ids=lambda row: "+".join(row),
)
def test_reasoning_beside_an_answer(row: dict[str, Any], name: str) -> None:
    expected = [ASKED, {**REPLIED, "reasoning_content": "Hm."}]
    assert read({**row, name: "Hm."})[1:] == ({"messages": expected}, ())


@pytest.mark.parametrize(
    "history",
    [
        [["q", "a"]],
        '[["q", "a"]]',
        "[('q', 'a')]",
        [{"question": "q", "answer": "a"}],
        [{"assistant": "a", "user": "q"}],
        [said("user", "q"), said("assistant", "a")],
        ["q", "a"],
        [{"Human": "q", "AI": "a"}],
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "names",
    [
        ("query", "response"),
        ("question", "answer"),
        ("prompt", "completion"),
        ("user", "assistant"),
    ],
)
def test_earlier_turns_beside_a_question(names: tuple[str, str], history: Any) -> None:
    row = {names[0]: "Q", names[1]: "A", "history": history}
    expected = [said("user", "q"), said("assistant", "a"), ASKED, REPLIED]
    assert read(row)[1:] == ({"messages": expected}, ())


@pytest.mark.parametrize(
    "name", ["dialogue_history", "Previous Messages", "message-history", "past_turns"]
)
def test_earlier_turns_by_other_names(name: str) -> None:
    row = {"query": "Q", "response": "A", name: [["q", "a"]]}
    expected = [said("user", "q"), said("assistant", "a"), ASKED, REPLIED]
    assert read(row)[1:] == ({"messages": expected}, ())


@pytest.mark.parametrize(
    "system",
    [[{"type": "text", "text": "Be brief."}], {"parts": [{"text": "Be "}, {"text": "brief."}]}],
)
def test_a_system_message_in_parts(system: Any) -> None:
    row = {"systemInstruction": system, "messages": [ASKED, REPLIED]}
    assert read(row)[1]["messages"] == [said("system", "Be brief."), ASKED, REPLIED]


def test_an_object_that_only_looks_like_a_message_is_an_answer_in_json() -> None:
    row = {"prompt": "Q", "completion": {"role": "nurse", "content": "A"}}
    answer = said("assistant", '{"role": "nurse", "content": "A"}')
    assert read(row)[1]["messages"] == [ASKED, answer]
    other = {"prompt": "Q", "completion": {"role": "user", "content": "A", "age": 3}}
    assert '"age": 3' in read(other)[1]["messages"][1]["content"]


def test_a_key_beside_a_question_and_its_answer_is_named() -> None:
    turns = [{"human": "Q", "assistant": "A", "mood": "glad"}]
    assert read({"conversation": turns})[2] == ("conversation[].mood",)


@pytest.mark.parametrize(
    "row",
    [
        {"query": "Q", "tools": [TOOL], "answers": [CALL]},
        {
            "id": 3,
            "query": "Q",
            "answers": '[{"name": "weather", "arguments": {"city": "Oslo"}}]',
            "tools": [TOOL],
        },
        {"question": "Q", "functions": [TOOL], "calls": [CALL]},
        {"instruction": "Q", "tools": [TOOL], "tool_calls": [CALL]},
        {"prompt": "Q", "available_tools": [TOOL], "function_calls": [CALL]},
    ],
    ids=lambda row: "+".join(row),
)
def test_function_calls(row: dict[str, Any]) -> None:
    call = {"type": "function", "function": CALL}
    name, canonical, unused = read(row)
    assert (name, unused) == ("function_calling", ())
    assert canonical["messages"] == [ASKED, said("assistant", "", tool_calls=[call])]
    assert canonical["tools"] == [{"type": "function", "function": TOOL}]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"order": 1, "item": "pen"}, '{"order": 1, "item": "pen"}'),
        ([1, 2], "[1, 2]"),
        (["a", "ü"], '["a", "ü"]'),
        ([{"a": None}], '[{"a": null}]'),
    ],
)
@pytest.mark.parametrize(
    "names",
    [
        ("prompt", "completion"),
        ("question", "answer"),
        ("instruction", "output"),
        ("problem", "solution"),
    ],
)
def test_objects_and_lists_are_answered_as_json(
    names: tuple[str, str], answer: Any, text: str
) -> None:
    assert read({names[0]: "Q", names[1]: answer})[1] == {
        "messages": [ASKED, said("assistant", text)]
    }


def test_a_translation_asks_for_its_direction() -> None:
    row = {"translation": {"en": "Q", "de": "A"}}
    chosen = choose_format(FILE, "auto", {}, [SourceRow(1, row, 0)], FORMATS)
    assert chosen.variant.id == "pairs"
    assert chosen.confidence < 0.5
    assert "from en to de" in chosen.reason
    other = read(row, source_language="de", target_language="en", instruction="Translate.")
    assert other[1]["messages"] == [said("user", "Translate.\n\nA"), said("assistant", "Q")]
    with pytest.raises(
        StudioError, match="has no language “fr” in column “translation”; it has en, de"
    ):
        read(row, target_language="fr")


@pytest.mark.parametrize(
    "value",
    [
        '{"en": "Q", "de": "A"}',
        {"language": ["en", "de"], "translation": ["Q", "A"]},
    ],
)
def test_other_notations_of_a_translation(value: Any) -> None:
    assert read({"translation": value})[1] == {"messages": [ASKED, REPLIED]}


def chatgpt() -> dict[str, Any]:
    """A conversation as ChatGPT exports it: a system node, a question, two answers to it."""

    def node(
        name: str, parent: str | None, children: list[str], role: str = "", *parts: Any
    ) -> Any:
        message = {
            "author": {"role": role},
            "content": {"content_type": "text", "parts": list(parts)},
        }
        return {
            "id": name,
            "parent": parent,
            "children": children,
            "message": message if role else None,
        }

    mapping = {
        "root": node("root", None, ["s"]),
        "s": node("s", "root", ["q"], "system", ""),
        "q": node("q", "s", ["a1", "a2"], "user", "Q"),
        "a1": node("a1", "q", [], "assistant", "first try"),
        "a2": node("a2", "q", [], "assistant", "A"),
    }
    return {
        "title": "T",
        "create_time": 1.0,
        "mapping": mapping,
        "current_node": "a2",
        "conversation_id": "x",
    }


def test_an_export_of_chatgpt() -> None:
    assert read(chatgpt()) == (
        "chat_export",
        {"messages": [ASKED, REPLIED]},
        ("mapping: other branches",),
    )
    one = chatgpt()
    del one["mapping"]["a1"]
    assert read(one)[1:] == ({"messages": [ASKED, REPLIED]}, ())
    one["mapping"]["q"]["message"]["content"]["parts"] = [
        "Q",
        {"content_type": "image_asset_pointer"},
    ]
    with pytest.raises(StudioError, match="part “image_asset_pointer”"):
        read(one)


def claude() -> dict[str, Any]:
    """A conversation as Claude exports it."""
    human = {
        "sender": "human",
        "text": "Q",
        "content": [{"type": "text", "text": "Q"}],
        "attachments": [],
    }
    reply = {
        "sender": "assistant",
        "text": "",
        "content": [{"type": "text", "text": "A"}],
        "files": [],
    }
    account = {"uuid": "u"}
    return {"uuid": "c", "name": "T", "account": account, "chat_messages": [human, reply]}


def test_an_export_of_claude() -> None:
    row = claude()
    assert read(row) == ("chat_export", {"messages": [ASKED, REPLIED]}, ())
    row["chat_messages"][0]["attachments"] = [{"file_name": "a.txt", "extracted_content": "..."}]
    assert read(row)[2] == ("chat_messages[].attachments",)


def test_thoughts_in_exports_are_kept_and_what_is_dropped_is_named() -> None:
    row = claude()
    answer = row["chat_messages"][1]
    answer["content"].insert(0, {"type": "thinking", "thinking": "Hm."})
    answer["text"] = "A"
    thought = {**REPLIED, "reasoning_content": "Hm."}
    assert read(row)[1:] == ({"messages": [ASKED, thought]}, ())
    answer["content"].insert(1, {"type": "tool_use", "name": "search", "input": {"q": "x"}})
    answer["text"] = "This block is not supported.\n\nA"
    assert read(row)[1:] == (
        {"messages": [ASKED, thought]},
        ("chat_messages[].content: tool_use",),
    )

    tree = chatgpt()
    del tree["mapping"]["a1"]

    def before_the_answer(name: str, content: dict[str, Any], **more: Any) -> None:
        last = tree["mapping"]["a2"]
        message = {"author": {"role": "assistant"}, "content": content, **more}
        node = {"id": name, "parent": last["parent"], "children": ["a2"], "message": message}
        tree["mapping"][name] = node
        last["parent"] = name

    thoughts = [{"summary": "Think", "content": "Hm."}]
    before_the_answer("t", {"content_type": "thoughts", "thoughts": thoughts})
    before_the_answer("r", {"content_type": "reasoning_recap", "content": "Thought for 2 s"})
    assert read(tree)[1:] == ({"messages": [ASKED, thought]}, ())
    before_the_answer("c", {"content_type": "code", "text": "print(1)"}, recipient="python")
    before_the_answer("u", {"content_type": "user_editable_context", "user_profile": "I am."})
    assert read(tree)[1:] == (
        {"messages": [ASKED, thought]},
        ("mapping: messages of tools", "mapping: user_profile"),
    )


@pytest.mark.parametrize("before", ["q", "s"])
def test_a_thought_of_chatgpt_without_an_answer_is_named(before: str) -> None:
    content = {"content_type": "thoughts", "thoughts": [{"summary": "x", "content": "Hm."}]}
    message = {"author": {"role": "assistant"}, "content": content}
    tree = chatgpt()
    node = tree["mapping"][before]
    tree["mapping"]["t"] = {"id": "t", "parent": node["parent"], "message": message, "children": []}
    node["parent"] = "t"
    assert "mapping: thoughts without an answer" in read(tree)[2]
    tree = chatgpt()
    tree["mapping"]["t"] = {"id": "t", "parent": "a2", "message": message, "children": []}
    tree["current_node"] = "t"
    assert "mapping: thoughts without an answer" in read(tree)[2]


@pytest.mark.parametrize(
    ("number", "text"), [(0, "Q"), (1, "")], ids=["of a question", "of a cancelled answer"]
)
def test_a_thought_of_claude_without_an_answer_is_named(number: int, text: str) -> None:
    row = claude()
    row["chat_messages"] += claude()["chat_messages"]
    thought = [{"type": "thinking", "thinking": "Hm."}]
    row["chat_messages"][number] |= {"text": text, "content": thought, "attachments": []}
    assert "chat_messages[].content: thinking" in read(row)[2]
    thought[0]["thinking"] = ""
    assert "chat_messages[].content: thinking" not in read(row)[2]


WEATHER = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}


def test_tool_blocks_of_anthropic() -> None:
    messages = [
        said("user", "Weather?"),
        said(
            "assistant",
            [
                {"type": "thinking", "thinking": "I need the tool."},
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}},
            ],
        ),
        said(
            "user",
            [
                {
                    "type": "tool_result",
                    "tool_use_id": "t1",
                    "content": [{"type": "text", "text": "rain"}],
                },
                {"type": "text", "text": "So?"},
            ],
        ),
        said("assistant", "It rains."),
    ]
    tool = {"name": "weather", "input_schema": {"type": "object"}}
    _, canonical, unused = read({"messages": messages, "tools": [tool]})
    assert unused == ()
    assert canonical["messages"] == [
        said("user", "Weather?"),
        said(
            "assistant",
            "Let me look.",
            reasoning_content="I need the tool.",
            tool_calls=[{**WEATHER, "id": "t1"}],
        ),
        said("tool", "rain", tool_call_id="t1"),
        said("user", "So?"),
        said("assistant", "It rains."),
    ]
    assert canonical["tools"] == [
        {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    ]


def test_tool_items_of_openai() -> None:
    messages = [
        {"type": "message", **said("user", [{"type": "input_text", "text": "Weather?"}])},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Two tools."}]},
        {
            "type": "function_call",
            "call_id": "a",
            "name": "weather",
            "arguments": '{"city": "Oslo"}',
        },
        {"type": "function_call", "call_id": "b", "name": "time", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "rain"},
        {"type": "function_call_output", "call_id": "b", "output": "noon"},
        {"type": "message", **said("assistant", [{"type": "output_text", "text": "It rains."}])},
    ]
    _, canonical, unused = read({"messages": messages})
    assert unused == ()
    time = {"type": "function", "function": {"name": "time", "arguments": {}}, "id": "b"}
    assert canonical["messages"] == [
        said("user", "Weather?"),
        said(
            "assistant",
            "",
            reasoning_content="Two tools.",
            tool_calls=[{**WEATHER, "id": "a"}, time],
        ),
        said("tool", "rain", tool_call_id="a"),
        said("tool", "noon", tool_call_id="b"),
        said("assistant", "It rains."),
    ]


@pytest.mark.parametrize(
    "turns",
    [
        [{"role": "user", "parts": [{"text": "Q"}]}, {"role": "model", "parts": [{"text": "A"}]}],
        [{"speaker": "human", "text": "Q"}, {"speaker": "bot", "text": "A"}],
        [{"sender": "user", "content": "Q"}, {"sender": "assistant", "content": "A"}],
    ],
)
def test_other_keys_of_messages(turns: list[dict[str, Any]]) -> None:
    assert read({"messages": turns})[1:] == ({"messages": [ASKED, REPLIED]}, ())


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            {"id": 1, "data": {"text": "Q"}, "annotations": [{"result": []}]},
            "an export of Label Studio",
        ),
        ({"fields": {"text": "Q"}, "responses": [{"values": {}}]}, "an export of Argilla"),
        ({"text": "Ada in Oslo", "label": [[0, 3, "PER"]]}, "labels of parts of a text"),
        ({"tokens": ["Ada"], "ner_tags": [1]}, "a label for each word"),
        (
            {"text": "Ada", "entities": [{"start": 0, "end": 3, "label": "PER"}]},
            "labels of parts of a text",
        ),
        ({"question": "Q", "A": "x", "B": "y", "answer": "B"}, "choices in the columns A and B"),
        (
            {"Question": "Q", "Option A": "x", "Option B": "y", "Answer": "A"},
            "choices in the columns Option A and Option B",
        ),
        ({"question": "Q", "answer": "A", "audio_filepath": "a.wav"}, "audio in “audio_filepath”"),
        ({"Date": "2/1/26", "Sender": "Ada", "Message": "Hi"}, "one message per row"),  # WhatsApp
        ({"type": "message", "user": "U1", "text": "Hi", "ts": "1.2"}, "one message per row"),
        ({"AuthorID": "1", "Author": "ada", "Content": "Hi"}, "one message per row"),  # Discord
        ({"role": "user", "content": "Hi"}, "one message per row"),
        ({"title": "T", "paragraphs": [{"context": "c", "qas": []}]}, "SQuAD in its nested form"),
        ({"prompt": {"text": "Q", "replies": []}, "tree_state": "x"}, "as OpenAssistant exports"),
        ({"conversation_a": [ASKED], "conversation_b": [ASKED]}, "as LMSYS exports"),
        ({"input": {}, "preferred_output": [], "non_preferred_output": []}, "as OpenAI takes"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_files_that_cannot_be_read_are_named(row: dict[str, Any], words: str) -> None:
    with pytest.raises(StudioError, match=words) as caught:
        read(row)
    assert caught.value.hint


def test_a_damaged_export_is_read_or_refused() -> None:
    """Whatever stands in one place of an export, the row is read or refused with a sentence."""
    rng = random.Random(0)
    odd: list[Any] = [None, 0, "", "x", [], {}, [None], {"a": 1}, float("nan"), "\ud800", True]

    def places(value: Any) -> Iterator[tuple[Any, Any]]:
        keys = (
            value
            if isinstance(value, dict)
            else range(len(value))
            if isinstance(value, list)
            else ()
        )
        for key in list(keys):
            yield value, key
            yield from places(value[key])

    payload = FORMATS["chat_export"].payload
    settings = FORMATS["chat_export"].settings()
    read_rows, refused = 0, list[RowError]()
    for _ in range(600):
        row = chatgpt() if rng.random() < 0.5 else claude()
        holder, key = rng.choice(list(places(row)))
        holder[key] = rng.choice(odd)
        try:
            payload.convert(row, settings)
            payload.unused(row, settings)
            read_rows += 1
        except RowError as error:
            refused.append(error)
    assert all(e.what and e.hint.endswith(".") for e in refused)
    assert min(read_rows, len(refused)) > 50


def test_a_failed_tool_of_anthropic_is_an_error_for_the_model() -> None:
    call = {"type": "tool_use", "id": "t", "name": "weather", "input": {}}
    result = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": "no such city",
        "is_error": True,
    }
    messages = [ASKED, said("assistant", [call]), said("user", [result]), REPLIED]
    assert read({"messages": messages})[1]["messages"][2] == said(
        "tool", '{"error": "no such city"}', tool_call_id="t"
    )


def test_a_text_after_a_call_stays_after_it() -> None:
    call = {"type": "tool_use", "id": "t", "name": "weather", "input": {}}
    parts = [{"type": "text", "text": "First."}, call, {"type": "text", "text": "Then."}]
    made = read({"messages": [ASKED, said("assistant", parts)]})[1]["messages"]
    assert [m["content"] for m in made] == ["Q", "First.", "Then."]
    assert ["tool_calls" in m for m in made] == [False, True, False]


@pytest.mark.parametrize("current", [None, "gone", 7])
def test_an_export_of_chatgpt_without_its_last_message(current: Any) -> None:
    """The last leaf is taken."""
    row = chatgpt()
    row["current_node"] = current
    assert read(row)[1] == {"messages": [ASKED, REPLIED]}
    del row["current_node"]
    assert read(row)[1] == {"messages": [ASKED, REPLIED]}


CALLED = {"function": CALL, "result": "rain"}
QUOTED = {"type": "text", "text": "A", "quote": "x"}
TURN = {"question": "q", "answer": "a", "mood": "calm"}
CHOICES = {"text": ["a", "b"], "label": ["A", "B"], "why": ["x", "y"]}


@pytest.mark.parametrize(
    ("row", "unused"),
    [
        (
            {"messages": [ASKED, said("assistant", "", tool_calls=[CALLED])]},
            "messages[].tool_calls[].result",
        ),
        ({"messages": [ASKED, said("assistant", [QUOTED])]}, "messages[].content[].quote"),
        (
            {"query": "Q", "tools": [TOOL], "answers": [{**CALL, "result": "rain"}]},
            "answers[].result",
        ),
        ({"question": "Q", "answer": "A", "history": [TURN]}, "history[].mood"),
        (
            {"instruction": "Q", "output": "A", "history": [{**ASKED, "mood": "calm"}, REPLIED]},
            "history[].mood",
        ),
        ({"question": "Q", "choices": CHOICES, "answer": "A"}, "choices.why"),
    ],
)
def test_keys_inside_used_columns_are_named(row: dict[str, Any], unused: str) -> None:
    assert read(row)[2] == (unused,)


@pytest.mark.parametrize("name", ["Unnamed: 0", "Unnamed: 0.1", "level_0", "__index_level_0__"])
def test_the_index_of_a_data_frame_is_bookkeeping(name: str) -> None:
    row = {name: 7, "question": "Q", "answer": "A"}
    assert read(row)[1:] == ({"messages": [ASKED, REPLIED]}, ())
    assert read({**row, name: "7.0"})[2] == ()
    assert read({**row, name: "a remark"})[2] == (name,)


@pytest.mark.parametrize(
    "name", ["reply", "resolution", "user", "Solution", "author_type", "TL;DR"]
)
def test_a_text_beside_such_a_column_is_no_plain_text(name: str) -> None:
    given = [SourceRow(1, {"body": "Q", "kind": "a", name: "A"}, 0)]
    found = detect(given, FORMATS)
    assert not found or found[0][1].confidence < 0.3 or found[0][0].id != "text"


def test_choices_in_columns_of_their_own_can_be_left_out() -> None:
    row = {"question": "Q", "A": "x", "B": "y", "answer": "A"}
    assert read({**row, "choices": ["x", "A"]})[0] == "question_answer"
    given = SourceRow(1, row, 0)
    settings = {"choices_column": ""}
    chosen = choose_format(FILE, "question_answer", settings, [given], FORMATS)
    assert chosen.read(given, FILE) == ({"messages": [ASKED, REPLIED]}, ("A", "B"))
