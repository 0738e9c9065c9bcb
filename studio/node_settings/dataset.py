"""The settings of the Dataset node."""

from __future__ import annotations

from typing import Any, Literal

from studio.graph.schema import Settings, setting


class DatasetSettings(Settings):
    """Where the examples are, how to read them, and which are held out."""

    source: str = setting(
        "",
        "File",
        "Your examples: JSONL, JSON, CSV, TSV, Parquet, Arrow, plain text or Markdown, also "
        "with .gz behind. A folder means all such files in it, “data/*.jsonl” those that match, and "
        "“;” separates several. “hub:owner/name” fetches a data set from the Hugging Face hub. A "
        "relative path starts from the project's folder.",
        widget="file",
        placeholder="examples.jsonl",
    )
    format: str = setting(
        "auto",
        "Format",
        "How one example is written. Detect looks at the first rows.",
        variant="format",
        special={"auto": "Detect"},
    )
    format_settings: dict[str, Any] = setting(
        {}, "Format settings", "Settings of the chosen format.", advanced=True
    )
    split_mode: Literal["fraction", "count", "column", "group", "file", "none"] = setting(
        "fraction",
        "Validation rows",
        "How the rows are chosen that are kept out of training to measure "
        "it honestly. Appending rows to the file moves no row to another side; by number, appended "
        "rows may take the place of validation rows. A group is never on both sides.",
        group="Split",
        choice_labels={
            "fraction": "A share",
            "count": "A number",
            "column": "A column says which",
            "group": "A share of groups",
            "file": "A file of their own",
            "none": "None",
        },
    )
    validation_fraction: float = setting(
        0.1,
        "Validation share",
        "Share of the rows (or groups) kept out of training to measure it "
        "honestly. 0.05 to 0.2 is usual; 0 switches validation off.",
        ge=0.0,
        le=0.9,
        step=0.01,
        group="Split",
        shown_if={"split_mode": ["fraction", "group"]},
    )
    validation_count: int = setting(
        100,
        "Validation rows to keep",
        "How many rows are kept out of training. 100 to 1000 measure well.",
        unit="rows",
        ge=1,
        group="Split",
        shown_if={"split_mode": "count"},
    )
    split_column: str = setting(
        "split",
        "Split column",
        "The column that says on which side a row is.",
        min_length=1,
        max_length=200,
        group="Split",
        shown_if={"split_mode": "column"},
    )
    train_values: str = setting(
        "train, training",
        "Training values",
        "What the split column says of rows to train on, separated by commas.",
        max_length=10_000,
        group="Split",
        shown_if={"split_mode": "column"},
        advanced=True,
    )
    validation_values: str = setting(
        "validation, valid, val, dev, eval",
        "Validation values",
        "What the split column says of validation rows, separated by commas.",
        max_length=10_000,
        group="Split",
        shown_if={"split_mode": "column"},
        advanced=True,
    )
    left_out_values: str = setting(
        "test, testing",
        "Values left out",
        "Rows that are neither trained on nor used for validation, separated by commas.",
        max_length=10_000,
        group="Split",
        shown_if={"split_mode": "column"},
        advanced=True,
    )
    group_column: str = setting(
        "group",
        "Group column",
        "Rows with the same value here stay together: the turns of one "
        "conversation, the questions on one document, one author.",
        min_length=1,
        max_length=200,
        group="Split",
        shown_if={"split_mode": "group"},
    )
    validation_source: str = setting(
        "",
        "Validation file",
        "Files with the validation rows, chosen like those above.",
        widget="file",
        placeholder="validation.jsonl",
        max_length=10_000,
        group="Split",
        shown_if={"split_mode": "file"},
    )
    seed: int = setting(
        0,
        "Split seed",
        "Another number picks other validation rows.",
        ge=0,
        le=2**31 - 1,
        group="Split",
        advanced=True,
        shown_if={"split_mode": ["fraction", "count", "group"]},
    )
    on_bad_rows: Literal["stop", "skip"] = setting(
        "stop",
        "Bad rows",
        "Stop ends at the first row that cannot be read and names its line. Leave out "
        "goes on without such rows; their number and lines are told. Damage that hides where the next row "
        "starts (a broken JSON list, gzip data that break off) ends a run in any case.",
        group="Rows",
        choice_labels={"stop": "Stop", "skip": "Leave out"},
    )
    deduplicate: bool = setting(
        False,
        "Leave out duplicates",
        "Of rows with exactly the same content, keep the first. Repeated "
        "rows are learnt more strongly than others.",
        group="Rows",
    )
    drop_validation_leaks: bool = setting(
        False,
        "Move leaks to training",
        "A validation row whose content is also trained on measures "
        "memory, not skill; on, such rows are moved to the training side.",
        group="Rows",
    )
    drop_rows: str = setting(
        "",
        "Rows to leave out",
        "Row numbers (3, 10-20) or lines of files (chats.jsonl:17), separated by commas.",
        max_length=100_000,
        group="Rows",
        advanced=True,
        placeholder="3, 10-20, chats.jsonl:17",
    )
    limit: int = setting(
        0,
        "Row limit",
        "Use only the first rows; handy for a quick try. 0 uses all.",
        unit="rows",
        ge=0,
        special={0: "all"},
        advanced=True,
        group="Rows",
    )
    documents: Literal["paragraph", "line", "file"] = setting(
        "paragraph",
        "A text file's rows",
        "What one row is in .txt and .md files: a paragraph (up to a "
        "blank line), a line, or the whole file. Rows longer than the maximum length are cut.",
        group="Reading",
        advanced=True,
        choice_labels={"paragraph": "Paragraphs", "line": "Lines", "file": "The whole file"},
    )
    encoding: Literal["auto", "utf-8", "utf-16", "latin-1", "cp1252"] = setting(
        "auto",
        "Encoding",
        "How letters are written in text files. Auto reads UTF-8, and UTF-16 with its "
        "mark. Old Windows files are often cp1252.",
        group="Reading",
        advanced=True,
        choice_labels={
            "auto": "Auto",
            "utf-8": "UTF-8",
            "utf-16": "UTF-16",
            "latin-1": "Latin-1",
            "cp1252": "Windows (cp1252)",
        },
    )
    hub_config: str = setting(
        "",
        "Hub configuration",
        "Which part of a data set from the hub, where it has several. Empty takes the default one.",
        group="Hub",
        advanced=True,
        placeholder="default",
        max_length=200,
    )
    hub_split: str = setting(
        "train",
        "Hub split",
        "Which split of a data set from the hub is read.",
        group="Hub",
        advanced=True,
        min_length=1,
        max_length=200,
    )
    hub_revision: str = setting(
        "",
        "Hub revision",
        "Branch, tag or commit of a data set from the hub. Empty takes the newest and "
        "pins it to its commit.",
        group="Hub",
        advanced=True,
        placeholder="newest",
        max_length=200,
    )
    hub_look_for_updates: bool = setting(
        False,
        "Look for updates",
        "A data set that was fetched once is taken from this machine without "
        "asking the hub. On, the hub is asked each time whether there is a newer version.",
        group="Hub",
        advanced=True,
    )


def keeps_validation(settings: Settings) -> bool:
    """Whether the settings of a Dataset node keep rows out of training."""
    mode = getattr(settings, "split_mode", "fraction")
    if mode in ("fraction", "group"):
        return bool(getattr(settings, "validation_fraction", 1))
    return bool(mode != "none")
