"""Rows of well-known data sets and APIs, in the spellings of each: everything in them is used, named or
refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from studio.data.detect import choose_format
from studio.data.reading.source import SourceRow
from studio.errors import StudioError
from tests.studio.formats.test_known_data import ASKED, FILE, FORMATS, REPLIED, TOOL, read, said

THOUGHT = "Seven sixes are forty-two, so the answer is forty-two."
THOUGHTFUL = said("assistant", "A", reasoning_content=THOUGHT)
OTHER = {"name": "other"}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}


def parts(*given: dict[str, Any], role: str = "assistant") -> dict[str, Any]:
    return {"role": role, "content": list(given)}


# ------------------------------------------------------------------ thoughts


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [ASKED, {**REPLIED, "thought": THOUGHT}]},
        {"messages": [ASKED, {**REPLIED, "cot": THOUGHT}]},
        {"messages": [ASKED, {**REPLIED, "rationale": THOUGHT}]},
        {
            "messages": [
                ASKED,
                {**REPLIED, "reasoning_details": [{"type": "reasoning.text", "text": THOUGHT}]},
            ]
        },
        {
            "messages": [
                ASKED,
                {
                    **REPLIED,
                    "thinking_blocks": [
                        {"type": "thinking", "thinking": THOUGHT, "signature": "x"}
                    ],
                },
            ]
        },
        {
            "messages": [
                ASKED,
                {
                    **REPLIED,
                    "reasoning": THOUGHT,
                    "reasoning_details": [{"type": "reasoning.summary", "summary": THOUGHT}],
                },
            ]
        },
        {"messages": [ASKED, said("thinking", THOUGHT), REPLIED]},
        {
            "messages": [
                ASKED,
                said("assistant", THOUGHT, channel="analysis"),
                {**REPLIED, "channel": "final"},
            ]
        },
        {
            "messages": [
                ASKED,
                parts({"text": THOUGHT, "thought": True}, {"text": "A"}, role="model"),
            ]
        },
        {
            "messages": [
                ASKED,
                parts(
                    {"reasoningContent": {"reasoningText": {"text": THOUGHT, "signature": "x"}}},
                    {"text": "A"},
                ),
            ]
        },
        {
            "messages": [
                {"role": "user", "parts": [{"type": "text", "text": "Q"}]},
                {
                    "role": "assistant",
                    "parts": [
                        {"type": "reasoning", "text": THOUGHT},
                        {"type": "text", "text": "A"},
                    ],
                },
            ]
        },
        {
            "conversations": [
                {"from": "human", "value": "Q"},
                {"from": "reasoning", "value": THOUGHT},
                {"from": "gpt", "value": "A"},
            ]
        },
        {
            "contents": [
                {"role": "user", "parts": [{"text": "Q"}]},
                {"role": "model", "parts": [{"text": THOUGHT, "thought": True}, {"text": "A"}]},
            ]
        },
        {
            "input": "Q",
            "output": [
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": THOUGHT}]},
                {"type": "message", **parts({"type": "output_text", "text": "A"})},
            ],
        },
        {"problem": "Q", "thinking": THOUGHT, "solution": "A"},
        {"prompt": "Q", "completion": "A", "reasoning_trace": THOUGHT},
        {"question": "Q", "answer": "A", "thoughts": [THOUGHT]},
    ],
    ids=lambda row: json.dumps(row)[:60],
)
def test_thoughts_of_other_apis(row: dict[str, Any]) -> None:
    assert read(row)[1:] == ({"messages": [ASKED, THOUGHTFUL]}, ())


@pytest.mark.parametrize("switch", ["on", "off", "On", "high", "none", True, False])
@pytest.mark.parametrize(
    "row",
    [
        {"messages": [ASKED, THOUGHTFUL]},
        {"input": [ASKED], "output": f"<think>{THOUGHT}</think>A"},
        {"prompt": "Q", "completion": "A"},
    ],
    ids=lambda row: "+".join(row),
)
def test_a_switch_is_no_thought(row: dict[str, Any], switch: Any) -> None:
    """As in Nemotron's data: it is not trained, and it is named."""
    plain = read(row)[1]
    assert read({**row, "reasoning": switch})[1:] == (
        plain,
        ("reasoning: a setting, not a thought",),
    )


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            {"messages": [ASKED, said("thinking", THOUGHT)]},
            "a thought in message 2 .* which no answer follows",
        ),
        (
            {"messages": [ASKED, said("thinking", THOUGHT), ASKED, REPLIED]},
            "a thought in message 2 .* which no answer follows",
        ),
        (
            {"messages": [ASKED, said("thinking", "x"), {**REPLIED, "reasoning": "y"}]},
            "several different thoughts",
        ),
        ({"messages": [ASKED, said("thinking", {"x": 1}), REPLIED]}, "a thought that is not text"),
        (
            {"messages": [ASKED, said("thinking", THOUGHT), said("environment", "x"), REPLIED]},
            "a thought in message 2 .* which no answer follows",
        ),
        (
            {"question": "Q", "solution": "A", "thinking_trajectories": [THOUGHT]},
            "reasoning in “thinking_trajectories”",
        ),
        (
            {"prompt": "Q", "completion": "A", "gemini_thinking": THOUGHT},
            "reasoning in “gemini_thinking”",
        ),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_a_thought_that_cannot_be_used_is_refused(row: dict[str, Any], words: str) -> None:
    with pytest.raises(StudioError, match=words) as caught:
        read(row)
    assert caught.value.hint


@pytest.mark.parametrize("answering", ["ai", "AI Assistant", "support-agent", "Bot", "agent"])
@pytest.mark.parametrize("thinking", ["thinking", "Thoughts", "analysis"])
def test_a_thought_before_an_answer_of_any_role(thinking: str, answering: str) -> None:
    row = {"messages": [ASKED, said(thinking, THOUGHT), said(answering, "A")]}
    assert read(row)[1:] == ({"messages": [ASKED, THOUGHTFUL]}, ())


@pytest.mark.parametrize("calling", ["function-call", "Tool Call", "tool_calls"])
def test_a_thought_before_a_call_of_any_role(calling: str) -> None:
    turns = [said("thinking", [{"type": "thinking", "thinking": THOUGHT}])]
    turns.append(said(calling, json.dumps(CALL["function"])))
    made = read({"messages": [ASKED, *turns]})[1]["messages"]
    assert made == [ASKED, said("assistant", "", reasoning_content=THOUGHT, tool_calls=[CALL])]


# ------------------------------------------------------------------ calls, results and tools

ANSWERED = [
    ASKED,
    said("assistant", "", tool_calls=[CALL]),
    said("tool", '{"temp": 3}', name="weather"),
    REPLIED,
]
GEMINI = [
    {"role": "user", "parts": [{"text": "Q"}]},
    {"role": "model", "parts": [{"functionCall": {"name": "weather", "args": {"city": "Oslo"}}}]},
    {"role": "user", "parts": [{"functionResponse": {"name": "weather", "response": {"temp": 3}}}]},
    {"role": "model", "parts": [{"text": "A"}]},
]
HARMONY = [
    ASKED,
    said("assistant", '{"city": "Oslo"}', channel="commentary", recipient="functions.weather"),
    said("functions.weather", '{"temp": 3}', channel="commentary"),
    said("assistant", "A", channel="final"),
]
SDK = [
    ASKED,
    parts({"type": "tool-call", "toolName": "weather", "input": {"city": "Oslo"}}),
    parts(
        {
            "type": "tool-result",
            "toolName": "weather",
            "output": {"type": "json", "value": {"temp": 3}},
        },
        role="tool",
    ),
    REPLIED,
]
BEDROCK = [
    parts({"text": "Q"}, role="user"),
    parts({"toolUse": {"toolUseId": "t", "name": "weather", "input": {"city": "Oslo"}}}),
    parts({"toolResult": {"toolUseId": "t", "content": [{"json": {"temp": 3}}]}}, role="user"),
    parts({"text": "A"}),
]


@pytest.mark.parametrize(
    "row",
    [{"contents": GEMINI}, {"messages": HARMONY}, {"messages": SDK}],
    ids=["Gemini", "harmony", "AI SDK"],
)
def test_calls_and_results_of_other_apis(row: dict[str, Any]) -> None:
    assert read(row)[1:] == ({"messages": ANSWERED}, ())


def test_the_name_of_a_function_in_harmony_keeps_its_capitals() -> None:
    messages = [
        ASKED,
        said("assistant", "{}", channel="commentary", recipient="functions.getWeather"),
        said("functions.getWeather", "x", channel="commentary"),
        REPLIED,
    ]
    call, result = read({"messages": messages})[1]["messages"][1:3]
    assert call["tool_calls"][0]["function"]["name"] == result["name"] == "getWeather"


def test_calls_and_results_of_bedrock() -> None:
    spec = {**TOOL, "inputSchema": {"json": TOOL["parameters"]}}
    del spec["parameters"]
    row = {
        "messages": BEDROCK,
        "toolConfig": {"tools": [{"toolSpec": spec}]},
        "system": [{"text": "Be brief."}],
    }
    name, canonical, unused = read(row)
    assert (name, unused) == ("messages", ())
    assert canonical["messages"] == [
        said("system", "Be brief."),
        ASKED,
        said("assistant", "", tool_calls=[{**CALL, "id": "t"}]),
        said("tool", '{"temp": 3}', tool_call_id="t"),
        REPLIED,
    ]
    assert canonical["tools"] == [{"type": "function", "function": TOOL}]


@pytest.mark.parametrize("key", ["functionDeclarations", "function_declarations"])
def test_tools_of_gemini(key: str) -> None:
    row = {"contents": GEMINI, "tools": [{key: [TOOL, {"name": "other"}]}]}
    tools = read(row)[1]["tools"]
    assert [t["function"]["name"] for t in tools] == ["weather", "other"]


@pytest.mark.parametrize(
    "system",
    [
        [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        {"role": "system", "parts": [{"text": "Be brief."}]},
        {"parts": [{"text": "Be "}, {"text": "brief."}]},
    ],
)
def test_system_messages_in_parts(system: Any) -> None:
    expected = {"messages": [said("system", "Be brief."), ASKED, REPLIED]}
    for name in ("system", "systemInstruction", "system_prompt", "instructions"):
        assert read({"messages": [ASKED, REPLIED], name: system})[1:] == (expected, ())


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (said("assistant", "", tool_calls=[]), "no value in message 2"),
        (
            said(
                "assistant",
                "",
                tool_calls=[{"type": "custom", "custom": {"name": "code", "input": "1"}}],
            ),
            "the custom tool “code”",
        ),
        (
            said(
                "assistant",
                "",
                tool_calls=[{"function": {"name": "python", "arguments": "print(1)"}}],
            ),
            "the arguments of the tool call “python” in message 2",
        ),
        (
            {"type": "web_search_call", "status": "completed"},
            "an item of type 'web_search_call' in message 2",
        ),
        (said("tool-call", "Calling tools"), "not valid JSON in message 2"),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_calls_that_cannot_be_used_are_refused_by_their_cause(
    message: dict[str, Any], words: str
) -> None:
    with pytest.raises(StudioError, match=words):
        read({"messages": [ASKED, message, REPLIED]})


def test_a_question_without_a_fitting_tool() -> None:
    """As in the irrelevance rows of xLAM."""
    row = {"query": "Q", "tools": [TOOL], "answers": "[]"}
    with pytest.raises(StudioError, match="has an empty list of tool calls in column “answers”"):
        choose_format(FILE, "function_calling", {}, [], FORMATS).read(SourceRow(1, row, 0), FILE)


GLAIVE = (
    'USER: Q\n\n\nASSISTANT: One moment. <functioncall> {"name": "weather", "arguments": '
    '\'{"city": "Oslo", "note": "it\\\'s"}\'} <|endoftext|>\n\n\nFUNCTION RESPONSE: {"temp": 3}\n\n\n'
    "ASSISTANT: A <|endoftext|>\n\n\nUSER: Steps?\n\n\nASSISTANT: First:\n\nA USER: mark in a line.\n"
)
OFFERED = (
    "SYSTEM: Use them if required -\n" + json.dumps(TOOL, indent=4) + '\n\n{"name": "other"}\n'
)


@pytest.mark.parametrize(
    "row",
    [{"system": OFFERED, "chat": GLAIVE}, {"sample": f"{OFFERED}\n{GLAIVE}"}],
    ids=["v2", "v1"],
)
def test_function_calls_as_text(row: dict[str, Any]) -> None:
    call = {"name": "weather", "arguments": {"city": "Oslo", "note": "it's"}}
    name, canonical, unused = read(row)
    assert (name, unused) == ("glaive", ())
    assert canonical["messages"] == [
        said("system", "Use them if required -"),
        ASKED,
        said("assistant", "One moment.", tool_calls=[{"type": "function", "function": call}]),
        said("tool", '{"temp": 3}'),
        REPLIED,
        said("user", "Steps?"),
        said("assistant", "First:\n\nA USER: mark in a line."),
    ]
    assert [t["function"]["name"] for t in canonical["tools"]] == ["weather", "other"]


def test_a_chat_as_text_without_functions() -> None:
    system = "SYSTEM: You are a helpful assistant, with no access to external functions.\n"
    row = {"system": system, "chat": "USER: Q\n\n\nASSISTANT: A <|endoftext|>\n\n\n"}
    head = said("system", "You are a helpful assistant, with no access to external functions.")
    assert read(row)[1:] == ({"messages": [head, ASKED, REPLIED]}, ())


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            {"chat": "Hello. \nUSER: Q\nASSISTANT: A"},
            "does not begin with USER: or SYSTEM: in column “chat”",
        ),
        ({"chat": "USER: Q\nASSISTANT: \nUSER: Q"}, "has no text in turn 2 of column “chat”"),
        (
            {"chat": "USER: Q\nASSISTANT: A <|endoftext|> B"},
            "has <|endoftext|> in turn 2".replace("|", "\\|"),
        ),
        ({"chat": "USER: Q\nASSISTANT: <functioncall> f()"}, "calls a function in turn 2"),
        (
            {"system": "SYSTEM: f {x}", "chat": "USER: Q\nASSISTANT: A"},
            "functions that are not valid JSON in column “system”",
        ),
        (
            {"chat": 'USER: Q\nASSISTANT: <functioncall> {"name": "f", "arguments": \'{x}\'}'},
            "not valid JSON in turn 2",
        ),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_a_chat_as_text_that_is_not_whole_is_refused(row: dict[str, Any], words: str) -> None:
    with pytest.raises(StudioError, match=words):
        read(row)


# ------------------------------------------------------------------ columns


@pytest.mark.parametrize(
    "row",
    [
        {"source": "olympiads", "problem": "Q", "solution": "A"},
        {"source": "cnn", "article": "Q", "highlights": "A"},
        {"source": "web", "text": "Q", "summary": "A"},
        {"user": "", "document": "Q", "summary": "A"},
        {"inputs": "Q", "targets": "A", "language": "English"},
        {"question": "Q", "solution": "A"},
        {"problem": "Q", "generated_solution": "A"},
        {"problem": "Q", "answer": "A"},
        {"conversation": [{"input": "Q", "output": "A"}], "source": "x"},
        {"conversation": [{"human": "Q", "assistant": "A"}]},
        {"conversations": ["Q", "A"], "source": "stackexchange"},
    ],
    ids=lambda row: "+".join(row),
)
def test_questions_and_answers_beside_a_source(row: dict[str, Any]) -> None:
    assert read(row)[1:] == ({"messages": [ASKED, REPLIED]}, ())


def test_the_name_of_a_task_is_no_question() -> None:
    """As in the CoT collection."""
    row = {"source": "Q", "target": "A", "rationale": THOUGHT, "task": "squad", "type": "CoT"}
    assert read(row)[1:] == ({"messages": [ASKED, THOUGHTFUL]}, ("task", "type"))


def test_a_thought_in_a_column_and_in_the_messages_is_used_once() -> None:
    row = {"messages": [ASKED, THOUGHTFUL], "analysis": THOUGHT, "final": "A", "user": "Q"}
    assert read(row)[2] == ()


# ------------------------------------------------------------------ media

CHAT = {"messages": [ASKED, REPLIED]}
PICTURE = {"bytes": b"x", "path": None}
SOUND = {"path": "a.wav", "array": [0.1], "sampling_rate": 16000}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({**CHAT, "question_audio": SOUND}, "audio in “question_audio”"),
        ({**CHAT, "figure": PICTURE}, "images or sound in “figure”"),
        ({**CHAT, "image_1": "a.png", "image_2": ""}, "images in “image_1”"),
        ({**CHAT, "InputImagePath": "a.png"}, "images in “InputImagePath”"),
        ({**CHAT, "frames": [PICTURE]}, "images or sound in “frames”"),
        ({**CHAT, "scan": "data:image/png;base64,AAAA"}, "images in “scan”"),
        ({**CHAT, "file_name": "0001.jpg"}, "images in “file_name”"),
        ({**CHAT, "recording": {"array": [0.1], "sampling_rate": 8000}}, "audio in “recording”"),
        ({"audio": SOUND, "sentence": "A"}, "audio in “audio”"),
        ({"image": PICTURE, "text": "A red cat."}, "images in “image”"),
        ({"file_name": "a.png", "text": "A red cat."}, "images in “file_name”"),
        ({"jpg": "a.jpg", "txt": "A red cat."}, "images in “jpg”"),
        ({"video": "a.mp4", "caption": "A cat."}, "videos in “video”"),
        ({"path": "clip.mp3", "sentence": "A", "question": "Q", "answer": "A"}, "audio in “path”"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_media_are_refused_by_name(row: dict[str, Any], words: str) -> None:
    with pytest.raises(StudioError, match=f"has {words}, which this program cannot train on"):
        read(row)


@pytest.mark.parametrize(
    "text",
    [
        "<IMG_CONTEXT>Q",
        "<ImageHere>Q",
        "<|image_soft_token|>Q",
        "<|video_pad|>Q",
        "<|audio_bos|>Q",
        "<speech>Q",
        "Picture 1: <img>a.jpg</img>\nQ",
        "Audio 1: <audio>dir/a.wav</audio>Q",
    ],
)
def test_other_marks_of_media_are_refused_by_name(text: str) -> None:
    with pytest.raises(StudioError, match="has the mark “<"):
        read({"messages": [said("user", text), REPLIED]})


@pytest.mark.parametrize(
    "extra",
    [
        {"speech": "Four score and seven years ago our fathers brought forth on this continent."},
        {"image_description": "A red cat"},
        {"num_images": 3},
        {"has_audio": False},
        {"picture": None},
        {"path": "notes/a.txt"},
    ],
    ids=lambda row: "+".join(row),
)
def test_a_text_about_media_is_no_media(extra: dict[str, Any]) -> None:
    assert read({**CHAT, **extra})[1] == CHAT


@pytest.mark.parametrize(
    "part",
    [
        {"image": {"format": "png", "source": {"bytes": "AA"}}},
        {"inlineData": {"mimeType": "image/png", "data": "AA"}},
        {"fileData": {"mimeType": "audio/mp3", "fileUri": "gs://x"}},
        {"video": {"format": "mp4"}},
        {"document": {"name": "x"}},
        {"type": "input_audio", "input_audio": {"data": "AA"}},
        {"type": "image_url", "image_url": {"url": "x"}},
        {"type": "file", "file": {"file_id": "x"}},
    ],
    ids=lambda part: next(iter(part)),
)
def test_parts_that_are_media_are_refused_by_name(part: dict[str, Any]) -> None:
    name = part.get("type") or next(iter(part))
    with pytest.raises(StudioError, match=f"a part .*{name}.* in message 1 .* only text can be"):
        read({"messages": [parts({"text": "Q"}, part, role="user"), REPLIED]})


# ------------------------------------------------------------------ further keys, roles and texts


@pytest.mark.parametrize("key", ["tools", "functions"])
@pytest.mark.parametrize("tools", [[TOOL], json.dumps([TOOL])], ids=["list", "text"])
def test_tools_of_a_message(key: str, tools: Any) -> None:
    system = said("system", "Be brief.")
    row = {"messages": [{**system, key: tools}, *ANSWERED]}
    expected = {"messages": [system, *ANSWERED], "tools": [{"type": "function", "function": TOOL}]}
    assert read(row)[1:] == (expected, ())


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [{**said("system", "s"), "tools": [TOOL]}, ASKED], "completion": "A"},
        {"prompt": {**ASKED, "functions": [TOOL]}, "completion": "A"},
        {"question": "Q", "answer": "A", "history": [{**ASKED, "tools": [TOOL]}, REPLIED]},
        {"tools": [TOOL], "messages": [{**said("system", "s"), "tools": [TOOL]}, ASKED, REPLIED]},
        {"messages": [{**ASKED, "tools": [TOOL]}, REPLIED, {**ASKED, "tools": [TOOL]}, REPLIED]},
    ],
    ids=lambda row: "+".join(row),
)
def test_tools_of_a_message_in_any_column(row: dict[str, Any]) -> None:
    _, canonical, unused = read(row)
    assert canonical["tools"] == [{"type": "function", "function": TOOL}]
    assert unused == ()


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{**ASKED, "tools": [TOOL]}, REPLIED, {**ASKED, "tools": [OTHER]}, REPLIED]},
        {"messages": [{**ASKED, "tools": [TOOL], "functions": [OTHER]}, REPLIED]},
        {"tools": [OTHER], "messages": [{**ASKED, "tools": [TOOL]}, REPLIED]},
        {"tools": [OTHER], "prompt": [{**ASKED, "tools": [TOOL]}], "completion": "A"},
        {
            "messages": [{**ASKED, "tools": [TOOL]}, REPLIED],
            "history": [{**ASKED, "tools": [OTHER]}, REPLIED],
        },
    ],
    ids=lambda row: "+".join(row),
)
def test_different_tools_in_a_row_are_refused(row: dict[str, Any]) -> None:
    with pytest.raises(StudioError, match="offers different tools in"):
        read(row)


@pytest.mark.parametrize(
    "row",
    [
        {"completion": "A", "label": True},
        {"completion": [said("assistant", "A")], "label": "true"},
        {"chosen": "A", "rejected": "B"},
        {"chosen": [said("assistant", "A")], "rejected": [said("assistant", "B")]},
    ],
    ids=lambda row: "+".join(row),
)
def test_keys_of_messages_in_preferences_are_named(row: dict[str, Any]) -> None:
    question = {**ASKED, "mood": "calm"}
    assert read({"prompt": [question], **row})[2] == ("prompt[].mood",)
    with pytest.raises(StudioError, match=r"has tools in “prompt\[\].tools”"):
        read({"prompt": [{**ASKED, "tools": [TOOL]}], **row})
    for name, value in row.items():
        if isinstance(value, list):
            answer = [{**value[0], "mood": "calm"}]
            assert read({"prompt": "Q", **row, name: answer})[2] == (f"{name}[].mood",)


PAIR = {"chosen": "A", "rejected": "B"}
GLAIVE_CHAT = {"chat": "USER: Q\n\n\nASSISTANT: A"}


@pytest.mark.parametrize("name", ["system", "system_prompt", "System Message", "instructions"])
@pytest.mark.parametrize("system", ["Be brief.", [{"type": "text", "text": "Be brief."}]])
@pytest.mark.parametrize("row", [{"prompt": "Q", **PAIR}, GLAIVE_CHAT], ids=["pair", "Glaive"])
def test_a_system_message_beside_pairs_and_texts(
    row: dict[str, Any], system: Any, name: str
) -> None:
    _, canonical, unused = read({name: system, **row})
    assert canonical["messages"][:2] == [said("system", "Be brief."), ASKED]
    assert unused == ()


def test_two_system_messages_of_a_pair_are_refused() -> None:
    row = {"system": "Be brief.", "prompt": [said("system", "Be long."), ASKED], **PAIR}
    with pytest.raises(StudioError, match="has the system message twice") as caught:
        read(row)
    assert "“System column”" in str(caught.value.hint)
    same = {**row, "system": "Be long."}
    assert read(same)[1]["messages"] == [said("system", "Be long."), ASKED]


@pytest.mark.parametrize("arguments", ["", " ", "\n\t", "{}", " {} "])
def test_arguments_without_any_value(arguments: str) -> None:
    """Blank text is no JSON: a template that takes text gets an empty object."""
    call = {"function": {"name": "weather", "arguments": arguments}}
    made = read({"messages": [ASKED, said("assistant", "", tool_calls=[call])]})[1]
    assert made["messages"][1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": {}}


def test_calls_in_a_key_function_calls() -> None:
    calls = json.dumps([CALL["function"]])
    row = {"messages": [ASKED, {"role": "assistant", "content": None, "function_calls": calls}]}
    assert read(row)[1]["messages"][1] == said("assistant", "", tool_calls=[CALL])


@pytest.mark.parametrize(
    ("role", "known"), [("ai", "assistant"), ("environment", "tool"), ("tool-response", "tool")]
)
def test_other_roles(role: str, known: str) -> None:
    row = {"messages": [*ANSWERED[:2], said(role, "x"), REPLIED]}
    assert read(row)[1]["messages"][2] == said(known, "x")


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (
            [{**ASKED, "reasoning": THOUGHT}, REPLIED],
            "a thought in message 1 of column “messages”, which is not an answer",
        ),
        (
            [ASKED, said("assistant", "<think>x</think>A", thinking="y")],
            "several different thoughts in message 2",
        ),
        (
            [ASKED, said("assistant", "<thinking>x</thinking>A", reasoning="y")],
            "several different thoughts in message 2",
        ),
    ],
)
def test_thoughts_that_no_template_shows_are_refused(
    messages: list[dict[str, Any]], words: str
) -> None:
    with pytest.raises(StudioError, match=words):
        read({"messages": messages})


def test_a_thought_in_the_text_and_beside_it_is_one_thought() -> None:
    content = f"<think>\n{THOUGHT}\n</think>\n\nA"
    row = {"messages": [ASKED, said("assistant", content, reasoning_content=THOUGHT)]}
    assert read(row)[1:] == ({"messages": [ASKED, said("assistant", content)]}, ())
    beside = {"question": "Q", "answer": content, "reasoning": THOUGHT}
    assert read(beside)[1:] == ({"messages": [ASKED, said("assistant", content)]}, ())
    with pytest.raises(StudioError, match="has the reasoning of the last answer twice"):
        read({**beside, "reasoning": "Another thought."})


@pytest.mark.parametrize("name", ["conversation", "dialog", "formatted", "chatml"])
@pytest.mark.parametrize(
    "text",
    ["<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>", "User: Q\nAssistant: A"],
)
def test_rendered_conversations_in_other_columns_are_named(name: str, text: str) -> None:
    with pytest.raises(StudioError, match=f"as text in “{name}”, in the style of") as caught:
        read({name: text})
    assert "“Rendered conversations”" in str(caught.value.hint)
    chosen = choose_format(FILE, "rendered_chat", {"text_column": name}, [], FORMATS)
    assert chosen.convert(SourceRow(1, {name: text}, 0), FILE) == {"messages": [ASKED, REPLIED]}
