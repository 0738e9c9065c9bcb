"""The settings of the Dataset node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from studio.graph.schema import Settings, setting

AUTOMATIC = "fraction"
"""The default of ``split_mode``: by the names of files and folders, otherwise a fraction. Its value is
that of the fraction in earlier versions, whose projects keep their meaning where no name decides."""
Encoding = Literal[
    "auto",
    "utf-8",
    "utf-16",
    "latin-1",
    "cp1252",
    "cp1250",
    "cp1257",
    "cp1254",
    "cp1258",
    "cp1251",
    "koi8-r",
    "cp866",
    "cp1253",
    "cp1255",
    "cp1256",
    "cp874",
    "gb18030",
    "big5hkscs",
    "cp932",
    "euc_jp",
    "iso2022_jp_ext",
    "cp949",
    "iso2022_kr",
    "cp437",
    "cp850",
    "mac_roman",
]
ENCODINGS: Mapping[Encoding, str] = {
    "auto": "Auto",
    "utf-8": "UTF-8",
    "utf-16": "UTF-16",
    "latin-1": "Western (Latin-1)",
    "cp1252": "Western (Windows-1252)",
    "cp1250": "Central European (Windows-1250)",
    "cp1257": "Baltic (Windows-1257)",
    "cp1254": "Turkish (Windows-1254)",
    "cp1258": "Vietnamese (Windows-1258)",
    "cp1251": "Cyrillic (Windows-1251)",
    "koi8-r": "Cyrillic (KOI8-R)",
    "cp866": "Cyrillic (DOS 866)",
    "cp1253": "Greek (Windows-1253)",
    "cp1255": "Hebrew (Windows-1255)",
    "cp1256": "Arabic (Windows-1256)",
    "cp874": "Thai (Windows-874)",
    "gb18030": "Chinese (GBK, GB18030)",
    "big5hkscs": "Chinese (Big5)",
    "cp932": "Japanese (Shift-JIS)",
    "euc_jp": "Japanese (EUC-JP)",
    "iso2022_jp_ext": "Japanese (ISO-2022-JP)",
    "cp949": "Korean (EUC-KR, CP949)",
    "iso2022_kr": "Korean (ISO-2022-KR)",
    "cp437": "Western (DOS 437)",
    "cp850": "Western (DOS 850)",
    "mac_roman": "Western (Mac Roman)",
}
"""The encodings of text files by their Python codec, with their names for users."""


class DatasetSettings(Settings):
    """Where the examples are, how to read them, and which are held out."""

    source: str = setting(
        "",
        "File",
        "Training examples: JSONL, JSON, CSV, TSV, Parquet, Arrow, plain text or Markdown, "
        "optionally compressed (.gz, .bz2, .xz, .zst); Excel and OpenDocument spreadsheets, SQLite "
        "databases; PDF, Word (.docx), HTML and EPUB documents as text (with the package markitdown); "
        "ZIP archives of such files. A folder includes all such files in it, split by "
        "their names if some are named train, validation or test; "
        "“data/*.jsonl” all matching files; separate several paths with “;”. “hub:owner/name” "
        "downloads a dataset from the Hugging Face Hub. Relative paths start at the project "
        "folder.",
        widget="file",
        placeholder="examples.jsonl",
    )
    format: str = setting(
        "auto",
        "Format",
        "How each example is structured. Detect inspects the first rows.",
        variant="format",
        special={"auto": "Detect"},
    )
    format_settings: dict[str, Any] = setting(
        {}, "Format settings", "Settings of the selected format.", advanced=True
    )
    row_unit: Literal["auto", "example", "message"] = setting(
        "auto",
        "One row is",
        "Detect joins the rows of a table with one message per row (columns such as conversation_id, "
        "role and content, or message_id and parent_id) into conversations.",
        group="Rows",
        advanced=True,
        choice_labels={"auto": "Detect", "example": "An example", "message": "A message"},
    )
    ignored_columns: list[str] = setting(
        [],
        "Ignored columns",
        "Columns and keys of messages that are intentionally not used for training. Other columns with "
        "content that the format does not use are reported; those that are known to carry meaning, such "
        "as a system message or images, are an error.",
        group="Rows",
        advanced=True,
        max_length=1000,
        placeholder="category, score",
    )
    split_mode: Literal["fraction", "share", "count", "column", "group", "file", "none"] = setting(
        AUTOMATIC,
        "Validation rows",
        "How validation rows are selected. Validation rows are not trained on. Automatic uses the "
        "files or folders of a folder that are named train, validation (valid, val, dev, eval) and "
        "test, or the splits of its dataset card; if there are no validation files, a fraction of the "
        "training rows is held out. With the other choices, training and validation files of a "
        "folder are split together. Test files of a folder are never used. With a fraction, "
        "appending rows to the file never moves an existing row to another split; with a fixed "
        "number, appended rows may replace validation rows. All rows of a group stay in the same "
        "split.",
        group="Split",
        choice_labels={
            "fraction": "Automatic",
            "share": "A fraction",
            "count": "A number",
            "column": "By column",
            "group": "Share of groups",
            "file": "Separate file",
            "none": "None",
        },
    )
    validation_fraction: float = setting(
        0.1,
        "Validation fraction",
        "Fraction of the rows (or groups) held out for validation. Typical values are 0.05 to "
        "0.2; 0 disables validation.",
        ge=0.0,
        le=0.9,
        step=0.01,
        group="Split",
        shown_if={"split_mode": ["fraction", "share", "group"]},
    )
    validation_count: int = setting(
        100,
        "Number of validation rows",
        "Number of rows held out for validation. Typical values are 100 to 1000.",
        unit="rows",
        ge=1,
        group="Split",
        shown_if={"split_mode": "count"},
    )
    split_column: str = setting(
        "split",
        "Split column",
        "Column that assigns each row to a split.",
        min_length=1,
        max_length=200,
        group="Split",
        shown_if={"split_mode": "column"},
    )
    train_values: str = setting(
        "train, training",
        "Training values",
        "Values of the split column that mark training rows, separated by commas.",
        max_length=10_000,
        group="Split",
        shown_if={"split_mode": "column"},
        advanced=True,
    )
    validation_values: str = setting(
        "validation, valid, val, dev, eval",
        "Validation values",
        "Values of the split column that mark validation rows, separated by commas.",
        max_length=10_000,
        group="Split",
        shown_if={"split_mode": "column"},
        advanced=True,
    )
    left_out_values: str = setting(
        "test, testing",
        "Excluded values",
        (
            "Values of the split column that mark rows to exclude from both training and "
            "validation, separated by commas."
        ),
        max_length=10_000,
        group="Split",
        shown_if={"split_mode": "column"},
        advanced=True,
    )
    group_column: str = setting(
        "group",
        "Group column",
        "Rows with the same value in this column stay in the same split, such as the turns of a "
        "conversation, the questions about a document, or the texts of an author.",
        min_length=1,
        max_length=200,
        group="Split",
        shown_if={"split_mode": "group"},
    )
    validation_source: str = setting(
        "",
        "Validation file",
        "Files with the validation rows. Accepts the same forms as File.",
        widget="file",
        placeholder="validation.jsonl",
        max_length=10_000,
        group="Split",
        shown_if={"split_mode": "file"},
    )
    seed: int = setting(
        0,
        "Split seed",
        "Seed for selecting the validation rows.",
        ge=0,
        le=2**31 - 1,
        group="Split",
        advanced=True,
        shown_if={"split_mode": ["fraction", "share", "count", "group"]},
    )
    on_bad_rows: Literal["stop", "skip"] = setting(
        "stop",
        "Invalid rows",
        "Stop ends the run at the first row that cannot be read and reports its line. Skip "
        "ignores such rows and reports their number and lines. Damage that hides where the next "
        "row starts (a broken JSON list, truncated gzip data) always ends the run.",
        group="Rows",
        choice_labels={"stop": "Stop", "skip": "Skip"},
    )
    deduplicate: bool = setting(
        False,
        "Remove duplicates",
        "Keep only the first of several rows with identical content. Repeated rows have more "
        "weight in training.",
        group="Rows",
    )
    drop_validation_leaks: bool = setting(
        False,
        "Move leaks to training",
        "A validation row whose content also occurs in the training rows makes the validation "
        "loss too optimistic. If on, such rows are moved to the training split.",
        group="Rows",
    )
    drop_rows: str = setting(
        "",
        "Excluded rows",
        "Row numbers (3, 10-20) or lines of files (chats.jsonl:17), separated by commas.",
        max_length=100_000,
        group="Rows",
        advanced=True,
        placeholder="3, 10-20, chats.jsonl:17",
    )
    limit: int = setting(
        0,
        "Row limit",
        "Use only the first rows, for example for a quick test. 0 uses all rows.",
        unit="rows",
        ge=0,
        special={0: "all"},
        advanced=True,
        group="Rows",
    )
    documents: Literal["file", "paragraph", "line"] = setting(
        "file",
        "Rows in text files",
        "What counts as one row in .txt and .md files and in documents: the entire file, a paragraph "
        "(up to a blank line), or a line. Training splits rows longer than the maximum length, or "
        "truncates them (“Long plain text” in the Train node). A single file as one row leaves no "
        "row for validation.",
        group="Reading",
        advanced=True,
        choice_labels={"file": "Entire file", "paragraph": "Paragraphs", "line": "Lines"},
    )
    encoding: Encoding = setting(
        "auto",
        "Encoding",
        "Character encoding of text files. Auto reads UTF-8, UTF-16 with a byte order mark, and "
        "otherwise detects the encoding from the first part of the file, with a warning that names "
        "it.",
        group="Reading",
        advanced=True,
        choice_labels={str(codec): name for codec, name in ENCODINGS.items()},
    )
    table: str = setting(
        "",
        "Sheet or table",
        "Sheet of a spreadsheet or table of a SQLite database to read. If empty, the first visible "
        "sheet with values, or the only table with rows; further sheets are reported.",
        group="Reading",
        advanced=True,
        widget="names",
        placeholder="first",
        max_length=200,
    )
    hub_config: str = setting(
        "",
        "Configuration",
        "Configuration (subset) of a folder or a Hub dataset that has several, such as the folders "
        "“en” and “de” with training files in each. Leave empty to use the default. For a folder, "
        "separate several with commas; * uses all.",
        group="Reading",
        advanced=True,
        widget="names",
        placeholder="default",
        max_length=200,
    )
    hub_split: str = setting(
        "train",
        "Split",
        "Split of a folder or a Hub dataset to train on.",
        group="Reading",
        advanced=True,
        widget="names",
        min_length=1,
        max_length=200,
    )
    hub_revision: str = setting(
        "",
        "Hub revision",
        "Branch, tag or commit of a Hub dataset. Leave empty to use the latest version; the run "
        "records its commit.",
        group="Hub",
        advanced=True,
        placeholder="latest",
        max_length=200,
    )
    hub_look_for_updates: bool = setting(
        False,
        "Check for updates",
        "If off, a dataset that is already on this machine is used without network access. If on, "
        "the Hub is checked for a newer version at each run.",
        group="Hub",
        advanced=True,
    )


def keeps_validation(settings: Settings) -> bool:
    """Whether the settings of a Dataset node hold out validation rows."""
    mode = getattr(settings, "split_mode", "fraction")
    if mode in ("fraction", "share", "group"):
        return bool(getattr(settings, "validation_fraction", 1))
    return bool(mode != "none")
