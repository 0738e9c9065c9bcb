"""The Arrow types of the stored columns (``studio.data.canonical``)."""

from __future__ import annotations

from datasets import Features, List, Value

_MESSAGE = {
    "role": Value("string"),
    "content": Value("string"),
    "weight": Value("float32"),
    "extra": Value("string"),
}
FEATURES = Features(
    {
        "messages": List(_MESSAGE),
        "tools": Value("string"),
        "chat_template_kwargs": Value("string"),
        "chosen": List(_MESSAGE),
        "rejected": List(_MESSAGE),
        "label": Value("bool"),
        "prompt": Value("string"),
        "completion": Value("string"),
        "text": Value("string"),
        "line": Value("int64"),
        "source": Value("string"),
    }
)
