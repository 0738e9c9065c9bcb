"""Text files in other encodings than UTF-8: detected, named in a warning, and chosen by a setting."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from studio.data.reading.encoding import detect_encoding
from studio.data.reading.reader import read_rows
from studio.data.window import open_window
from studio.graph.node_type import CheckContext
from studio.graph.registry import load_registry
from studio.node_settings.dataset import ENCODINGS, DatasetSettings
from studio.nodes.dataset import check
from studio.training.data.rows import prepare_rows
from tests.studio.training.steps import Recorder, make_context

VARIANTS = load_registry().variants
SENTENCES = {
    "gb18030": ("植物为什么需要阳光？", "植物用阳光把水和二氧化碳变成养分。"),
    "big5hkscs": ("植物為什麼需要陽光？", "植物用陽光把水和二氧化碳變成養分。"),
    "cp932": ("植物にはなぜ光が必要ですか？", "光を使って水と二酸化炭素から養分を作るからです。"),
    "euc_jp": ("植物にはなぜ光が必要ですか？", "光を使って水と二酸化炭素から養分を作るからです。"),
    "iso2022_jp_ext": ("植物にはなぜ光が必要ですか？", "ﾋｶﾘを使って養分を作るからです。"),
    "cp949": ("식물은 왜 빛이 필요합니까?", "빛으로 물과 이산화탄소에서 양분을 만들기 때문입니다."),
    "iso2022_kr": ("식물은 왜 빛이 필요합니까?", "빛으로 양분을 만들기 때문입니다."),
    "cp1251": ("Зачем растениям свет?", "Они получают из воды и воздуха питательные вещества."),
    "koi8-r": ("Зачем растениям свет?", "Они получают из воды и воздуха питательные вещества."),
    "cp1252": ("Pourquoi l’herbe a-t-elle besoin de lumière ?", "Grâce à elle, l’été passé…"),
    "cp1250": ("Dlaczego rośliny potrzebują światła?", "Dzięki niemu tworzą składniki odżywcze."),
    "cp1253": ("Γιατί τα φυτά χρειάζονται φως;", "Με αυτό φτιάχνουν την τροφή τους."),
    "cp1254": (
        "Bitkiler neden ışığa ihtiyaç duyar?",
        "Işıkla su ve havadan besin üretirler, değil mi?",
    ),
    "cp1255": ("למה צמחים צריכים אור?", "בעזרתו הם מייצרים את המזון שלהם."),
    "cp1256": ("لماذا تحتاج النباتات إلى الضوء؟", "لأنها تصنع به غذاءها من الماء والهواء."),
    "cp874": ("ทำไมพืชจึงต้องการแสง", "พืชใช้แสงสร้างอาหารจากน้ำและอากาศ"),
}


def as_csv(question: str, answer: str) -> str:
    return f'prompt,completion\n"{question}","{answer}"\n"{question}","{answer}"\n'


def as_jsonl(question: str, answer: str) -> str:
    row = json.dumps({"prompt": question, "completion": answer}, ensure_ascii=False)
    return f"{row}\n{row}\n"


def as_json(question: str, answer: str) -> str:
    return json.dumps(
        [{"prompt": question, "completion": answer}] * 2, ensure_ascii=False, indent=1
    )


def as_one_line(question: str, answer: str) -> str:
    rows = [{"prompt": question, "completion": answer}] * 2
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))


def problems(settings: DatasetSettings, root: Path) -> list[Any]:
    return list(check(settings, CheckContext("data", "Dataset", root, variants=VARIANTS)))


def shown(root: Path, **settings: Any) -> list[dict[str, Any]]:
    """The rows of the window."""
    with open_window(DatasetSettings(**settings), root, VARIANTS["format"]) as window:
        return [r.data for r in window.rows(1, 100)]


@pytest.mark.parametrize("write", [as_csv, as_jsonl, as_json])
@pytest.mark.parametrize("codec", SENTENCES)
def test_an_encoding_is_detected_and_named(codec: str, write: Any, tmp_path: Path) -> None:
    name = f"rows.{write.__name__.removeprefix('as_')}"
    question, answer = SENTENCES[codec]
    (tmp_path / name).write_bytes(write(question, answer).encode(codec))
    row = {"prompt": question, "completion": answer}
    assert shown(tmp_path, source=name) == [row, row]
    (found,) = problems(DatasetSettings(source=name), tmp_path)
    assert (found.severity, found.code, found.field) == ("warning", "detected_encoding", "encoding")
    assert f"{name} is not UTF-8; it was read as {ENCODINGS[codec]}" in found.sentence
    chosen = DatasetSettings(source=name, encoding=codec)
    assert problems(chosen, tmp_path) == []
    assert shown(tmp_path, source=name, encoding=codec) == [row, row]


def test_the_run_names_the_encoding_and_another_can_be_chosen(tmp_path: Path) -> None:
    question, answer = SENTENCES["cp1251"]
    (tmp_path / "a.csv").write_bytes(as_csv(question, answer).encode("cp1251"))
    for encoding, named, text in (("auto", True, question), ("koi8-r", False, None)):
        told = Recorder()
        context = make_context(tmp_path / f"run-{encoding}", told)
        context.project_dir = tmp_path
        settings = DatasetSettings(source="a.csv", encoding=encoding, split_mode="none")
        prepare_rows(context, settings)
        notices = [e for e in told.named("Notice") if "is not UTF-8" in str(e.get("sentence"))]
        assert bool(notices) is named
        if named:
            assert "Cyrillic (Windows-1251)" in str(notices[0].get("sentence"))
            assert "Choose another encoding" in str(notices[0].get("hint"))
        (first, _) = shown(tmp_path, source="a.csv", encoding=encoding)
        assert (first["prompt"] == question) is (text == question)


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("He left the café.\nA naïve plan\n", "cp1252"),
        ("“Smart quotes” — café à la crème\n", "cp1252"),
        ("the façade of Müller’s house\n", "cp1252"),
        ("Żółta gęś ściśle współpracuje z łosiem\n", "cp1250"),
        ("price: 5 £\n", "cp1252"),
        ("plain words\n" * 50_000 + "Привет, как дела?\n", "cp1251"),
        ("plain words\n" * 5_000 + "こんにちは、元気ですか\n", "cp932"),
        ("plain words\n" * 10_000 + "こんにちは、元気ですか\n", "iso2022_jp"),
        ("\x1b[1mplain\x1b[0m\n" * 10_000 + "こんにちは、元気ですか\n", "cp932"),
    ],
)
def test_few_letters_are_enough(text: str, codec: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(codec))
    found = detect_encoding(path, "auto").encoding
    assert text.encode(codec).decode(found) == text


@pytest.mark.parametrize(
    "text",
    [
        "plain\n",
        "\x1b[1mbold\x1b[0m\n",
        "\x1b$B é\n",
        "é\n",
        "你好\n" * 40_000,
        "plain\n" * 20_000 + "«да»\n",
        "👍" * 20_000,
    ],
)
def test_utf_8_stays_utf_8_without_a_warning(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode())
    found = detect_encoding(path, "auto")
    assert (found.encoding, found.notes) == ("utf-8", ())


def test_compressed_text_is_detected_alike(tmp_path: Path) -> None:
    question, answer = SENTENCES["gb18030"]
    packed = gzip.compress(("plain,words\n" * 10_000 + f"{question},{answer}\n").encode("gbk"))
    (tmp_path / "a.csv.gz").write_bytes(packed)
    rows = list(read_rows(tmp_path / "a.csv.gz"))
    assert rows[-1].data == {"plain": question, "words": answer}


def test_a_changed_file_is_detected_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(SENTENCES["cp1251"][0].encode("cp1251"))
    assert detect_encoding(path, "auto").encoding == "cp1251"
    path.write_bytes(SENTENCES["cp1251"][0].encode("utf-8"))
    assert detect_encoding(path, "auto").encoding == "utf-8"


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("number", ["cp1251", "cp932", "cp1253", "cp1252"])
@pytest.mark.parametrize("write", [as_csv, as_one_line])
def test_utf16_without_a_mark_is_named_in_any_script(
    write: Any, number: str, codec: str, tmp_path: Path
) -> None:
    question, answer = SENTENCES[number]
    name = "rows.csv" if write is as_csv else "rows.json"
    (tmp_path / name).write_bytes(write(question, answer).encode(codec))
    (found,) = problems(DatasetSettings(source=name), tmp_path)
    assert "looks like UTF-16 without a byte order mark" in found.sentence
    chosen = DatasetSettings(source=name, encoding="utf-16")
    assert problems(chosen, tmp_path) == []
    assert shown(tmp_path, source=name, encoding="utf-16")[0]["prompt"] == question
