"""Templates of Go (``text/template``) as Ollama uses them: evaluated by Go itself, where it is installed, and by a
small evaluator for the part of the language that exports use.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed")
_PROGRAM = """package main

import (
	"bytes"
	"encoding/json"
	"os"
	"text/template"
)

type message struct{ Role, Content string }

type request struct {
	Template string
	System   string
	Messages []*message
}

func main() {
	var requests []request
	if err := json.NewDecoder(os.Stdin).Decode(&requests); err != nil {
		panic(err)
	}
	texts := []string{}
	for _, r := range requests {
		t := template.Must(template.New("").Option("missingkey=zero").Parse(r.Template))
		var b bytes.Buffer
		values := map[string]any{"System": r.System, "Messages": r.Messages, "Response": ""}
		if err := t.Execute(&b, values); err != nil {
			panic(err)
		}
		texts = append(texts, b.String())
	}
	json.NewEncoder(os.Stdout).Encode(texts)
}
"""


def values(messages: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """What Ollama passes to a template (``template/template.go``): the system messages joined, and all messages."""
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    shown = [{"Role": m["role"], "Content": m["content"]} for m in messages]
    return {"System": system, "Messages": shown}


def run_go(root: Path, requests: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """The texts of templates with values, by Go."""
    program = root / "main.go"
    program.write_text(_PROGRAM, encoding="utf-8")
    given = json.dumps([{"Template": t, **v} for t, v in requests])
    done = subprocess.run(
        ["go", "run", str(program)],
        input=given,
        capture_output=True,
        encoding="utf-8",
        env={"PATH": "/usr/bin:/bin:/usr/local/go/bin", "HOME": str(root), "GO111MODULE": "off"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    texts: list[str] = json.loads(done.stdout)
    return texts


# ------------------------------------------------------------------ the small evaluator

_ACTION = re.compile(r"(?:\s*\{\{-|\{\{)\s*((?:\"(?:[^\"\\]|\\.)*\"|[^\"])*?)\s*(?:-\}\}\s*|\}\})")
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|[()]|[^\s()]+')


def evaluate(template: str, data: Mapping[str, Any]) -> str:
    """The text of a template. Raises ``ValueError`` for what is not supported."""
    parts: list[tuple[str, str]] = []
    place = 0
    for found in _ACTION.finditer(template):
        parts += [("text", template[place : found.start()]), ("action", found.group(1))]
        place = found.end()
    parts.append(("text", template[place:]))
    out: list[str] = []
    rest = _Run(dict(data), out).block(parts, 0, True)
    if rest != len(parts):
        raise ValueError("unexpected end")
    return "".join(out)


class _Run:
    def __init__(self, data: dict[str, Any], out: list[str]) -> None:
        self.root, self.dot, self.out = data, data, out
        self.names: dict[str, Any] = {"$": data}

    def block(self, parts: list[tuple[str, str]], at: int, on: bool) -> int:
        """Evaluate up to the ``else`` or ``end`` of this block; returns its place."""
        while at < len(parts):
            kind, text = parts[at]
            if kind == "text":
                if on:
                    self.out.append(text)
            elif text == "end" or text.startswith("else"):
                return at
            elif text.startswith(("if ", "range ")):
                at = self._branch(parts, at, on)
            elif on:
                self._action(text)
            at += 1
        return at

    def _branch(self, parts: list[tuple[str, str]], at: int, on: bool) -> int:
        text = parts[at][1]
        if text.startswith("range "):
            names, _, source = text.removeprefix("range ").partition(" := ")
            index, item = names.split(", ")
            end = self.block(parts, at + 1, False)
            for number, one in enumerate(self._value(source) if on else []):
                before, self.dot = self.dot, one
                self.names |= {index: number, item: one}
                self.block(parts, at + 1, True)
                self.dot = before
            return end
        taken = False
        condition: str | None = text.removeprefix("if ")
        while True:
            now = on and not taken and (condition is None or bool(self._value(condition)))
            taken = taken or now
            at = self.block(parts, at + 1, now)
            text = parts[at][1]
            if text == "end":
                return at
            condition = text.removeprefix("else if ") if text.startswith("else if ") else None

    def _action(self, text: str) -> None:
        for sign in (" := ", " = "):
            name, there, source = text.partition(sign)
            if there and re.fullmatch(r"\$\w+", name):
                if sign == " = " and name not in self.names:
                    raise ValueError(f"undefined variable {name}")
                self.names[name] = self._value(source)
                return
        self.out.append(str(self._value(text)))

    def _value(self, text: str) -> Any:
        words = _WORD.findall(text)
        value, rest = self._call(words)
        if rest:
            raise ValueError(f"unexpected {rest}")
        return value

    def _call(self, words: list[str]) -> tuple[Any, list[str]]:
        functions = {
            "eq": lambda a, b: a == b,
            "and": lambda a, b: a and b,
            "not": lambda a: not a,
            "len": len,
            "slice": lambda a, i: a[i:],
        }
        if words[0] not in functions:
            return self._one(words)
        function, arguments, rest = functions[words[0]], [], words[1:]
        while rest and rest[0] != ")":
            value, rest = self._one(rest)
            arguments.append(value)
        return function(*arguments), rest

    def _one(self, words: list[str]) -> tuple[Any, list[str]]:
        word, rest = words[0], words[1:]
        if word == "(":
            value, rest = self._call(rest)
            if rest[:1] != [")"]:
                raise ValueError("a parenthesis is missing")
            return value, rest[1:]
        if word.startswith('"'):
            return json.loads(word), rest  # without \\U, which JSON has not
        if word.isdigit():
            return int(word), rest
        if word in ("true", "false"):
            return word == "true", rest
        if word.startswith("$."):
            return self.root[word[2:]], rest
        if word.startswith("."):
            return self.dot[word[1:]], rest
        if word.startswith("$"):
            return self.names[word], rest
        raise ValueError(f"{word} is not supported")
