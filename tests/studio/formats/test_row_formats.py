"""Exact canonical rows of the formats with columns of text: instructions, questions, labels, pairs."""

from __future__ import annotations

from typing import Any

import pytest

from studio.graph.registry import load_registry

FORMATS = load_registry().variants["format"]


def converted(format_id: str, row: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """The canonical row of one format."""
    variant = FORMATS[format_id]
    found: dict[str, Any] = variant.payload.convert(row, variant.settings(**settings))
    return found


def chat(*turns: str, system: str = "") -> list[dict[str, Any]]:
    """User and assistant in turn."""
    first = [{"role": "system", "content": system}] if system else []
    return first + [
        {"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(turns)
    ]


def test_an_instruction_with_history_and_system() -> None:
    row = {
        "instruction": "And 3 + 3?",
        "input": "Only the number.",
        "output": "6",
        "system": "You add.",
        "history": [["1 + 1?", "2"], ("2 + 2?", 4)],
    }
    wanted = chat(
        "1 + 1?", "2", "2 + 2?", "4", "And 3 + 3?\n\nOnly the number.", "6", system="You add."
    )
    assert converted("instruction", row) == {"messages": wanted}
    as_json = {**row, "history": '[["1 + 1?", "2"], ["2 + 2?", "4"]]'}
    assert converted("instruction", as_json) == {"messages": wanted}
    for nothing in (None, "", []):
        short = converted("instruction", {**row, "history": nothing, "system": nothing or ""})
        assert short == {"messages": chat("And 3 + 3?\n\nOnly the number.", "6")}
    assert len(converted("instruction", row, history_column="")["messages"]) == 3


MMLU = {"question": "Which melts?", "choices": ["sand", "ice", "salt"], "answer": 1}
ASKED = "Which melts?\nA. sand\nB. ice\nC. salt\n\nAnswer with the "


@pytest.mark.parametrize(
    "row",
    [
        MMLU,
        {**MMLU, "answer": "B"},
        {**MMLU, "answer": "b)"},
        {**MMLU, "answer": "ice"},
        {**MMLU, "answer": "1"},
        {**MMLU, "answer": 1.0},
        {**MMLU, "choices": '["sand", "ice", "salt"]'},
        {
            **MMLU,
            "choices": {"text": ["sand", "ice", "salt"], "label": ["A", "B", "C"]},
            "answer": "B",
        },
        {
            "question": "Which melts?",
            "choices": {"text": ["sand", "ice", "salt"], "label": ["1", "2", "3"]},
            "answerKey": "2",
        },
        {
            "question": "Which melts?",
            "options": {"A": "sand", "B": "ice", "C": "salt"},
            "answer": "ice",
        },
    ],
)
def test_a_choice_named_by_number_letter_label_or_text(row: dict[str, Any]) -> None:
    wanted = chat(ASKED + "letter of the right choice.", "B")
    assert converted("question_answer", row) == {"messages": wanted}


def test_how_choices_are_answered() -> None:
    text = converted("question_answer", MMLU, answer_with="text")
    assert text == {"messages": chat(ASKED + "text of the right choice.", "ice")}
    both = converted("question_answer", MMLU, answer_with="letter_and_text")
    assert both == {"messages": chat(ASKED + "letter and the text of the right choice.", "B. ice")}
    from_one = converted("question_answer", {**MMLU, "answer": 2}, first_number=1)
    assert from_one["messages"][-1]["content"] == "B"


def test_mixed_choices_are_spread_and_stay_right() -> None:
    rows = [
        {"question": f"q{i}", "choices": ["right", "x", "y", "z"], "answer": 0} for i in range(60)
    ]
    found = [converted("question_answer", r, mix_choices=True)["messages"] for r in rows]
    assert found == [converted("question_answer", r, mix_choices=True)["messages"] for r in rows]
    letters = [messages[1]["content"] for messages in found]
    assert {letters.count(x) > 5 for x in "ABCD"} == {True}
    for question, answer in found:
        assert f"\n{answer['content']}. right\n" in question["content"]


@pytest.mark.parametrize(
    ("row", "asked", "answer"),
    [
        ({"question": "2 + 2?", "answer": "2 + 2 = 4\n#### 4"}, "2 + 2?", "2 + 2 = 4\n#### 4"),
        (
            {
                "question": "Who?",
                "context": "Ada wrote.",
                "answers": {"text": ["Ada", "A."], "answer_start": [0, 0]},
            },
            "Ada wrote.\n\nWho?",
            "Ada",
        ),
        ({"question": "is it", "passage": "It is.", "answer": True}, "It is.\n\nis it", "Yes"),
        ({"question": "is it", "passage": "It is.", "answer": False}, "It is.\n\nis it", "No"),
        ({"question": "Who?", "answers": ["Ada", "Bob"]}, "Who?", "Ada"),
        ({"question": "Who?", "choices": [], "answer": "Ada"}, "Who?", "Ada"),
    ],
)
def test_questions_without_choices(row: dict[str, Any], asked: str, answer: str) -> None:
    assert converted("question_answer", row) == {"messages": chat(asked, answer)}


def test_a_question_without_an_answer_gets_the_text_for_it() -> None:
    row = {"question": "Who?", "context": "c", "answers": {"text": [], "answer_start": []}}
    found = converted("question_answer", row, no_answer_text="Not said.")
    assert found == {"messages": chat("c\n\nWho?", "Not said.")}
    orca = {"system_prompt": "s", "question": "q", "response": "r"}
    assert converted("question_answer", orca) == {"messages": chat("q", "r", system="s")}


@pytest.mark.parametrize("label", [1, "1", 1.0, "positive", True])
def test_a_label_by_number_or_name(label: Any) -> None:
    found = converted(
        "classification",
        {"text": "Fine {labels}!", "label": label},
        label_names=["negative", "positive"],
    )
    asked = (
        "Which label fits this text? Answer with the label only.\nLabels: negative, positive\n\n"
    )
    assert found == {"messages": chat(asked + "Fine {labels}!", "positive")}


def test_labels_without_names_and_another_question() -> None:
    row = {"text": "Fine!", "label": "joy"}
    plain = converted("classification", row)
    assert plain == {
        "messages": chat("Which label fits this text? Answer with the label only.\n\nFine!", "joy")
    }
    own = converted(
        "classification", row, template="{text}\nMood ({labels})?", label_names=["joy", "woe"]
    )
    assert own == {"messages": chat("Fine!\nMood (joy, woe)?", "joy")}
    assert (
        converted("classification", {"text": "a", "label": True})["messages"][1]["content"]
        == "true"
    )


def pair(prompt: list[Any], chosen: str, rejected: str) -> dict[str, Any]:
    """A canonical preference."""
    return {"messages": prompt, "chosen": chat("", chosen)[1:], "rejected": chat("", rejected)[1:]}


YES, NO = chat("hi", "yes"), chat("hi", "no")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "hi", "chosen": "yes", "rejected": "no"},
        {"question": "hi", "chosen": "yes", "rejected": "no"},
        {"prompt": YES[:1], "chosen": YES[1:], "rejected": NO[1:]},
        {"prompt": "hi", "chosen": YES[1:], "rejected": NO[1:]},
        {"prompt": "hi", "chosen": YES, "rejected": NO},
        {"prompt": YES[:1], "chosen": YES, "rejected": NO},
        {"chosen": YES, "rejected": NO},
        {"chosen": "\n\nHuman: hi\n\nAssistant: yes", "rejected": "\n\nHuman: hi\n\nAssistant: no"},
    ],
)
def test_preferences_in_every_spelling(row: dict[str, Any]) -> None:
    assert converted("preference", row) == pair(chat("hi"), "yes", "no")


def test_preferences_over_several_turns_with_a_system_message() -> None:
    row = {
        "system": "s",
        "chosen": chat("a", "b", "c", "yes"),
        "rejected": chat("a", "b", "c", "no"),
    }
    assert converted("preference", row) == pair(chat("a", "b", "c", system="s"), "yes", "no")
    start = "Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: "
    row = {"chosen": start + "yes", "rejected": start + "no"}
    assert converted("preference", row) == pair(chat("a", "b", "c"), "yes", "no")


def test_texts_that_begin_alike_share_a_prompt_of_whole_words() -> None:
    row = {"chosen": "The sky is blue.", "rejected": "The sky is black."}
    assert converted("preference", row) == pair(chat("The sky is"), "blue.", "black.")


@pytest.mark.parametrize("label", [True, "true", "True", 1, "1", 1.0])
def test_a_good_answer(label: Any) -> None:
    row = {"prompt": "hi", "completion": "yes", "label": label}
    assert converted("kto", row) == {"messages": YES, "label": True}
