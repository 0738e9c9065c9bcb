"""PDF, Word, HTML and EPUB documents as text, and what is said without the package for them."""

from __future__ import annotations

import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from studio.data.reading import document, folder
from studio.data.window import open_window
from studio.node_settings.dataset import DatasetSettings
from tests.studio.formats.everyday import VARIANTS, everywhere, problems

ROOT = Path(__file__).resolve().parents[3]
LINES = ("Plants need light.", "They make food from water and air.")


def pdf(path: Path) -> None:
    """One page with both lines."""
    shown = " ".join(f"({line}) Tj 0 -40 Td" for line in LINES)
    stream = f"BT /F1 12 Tf 72 700 Td {shown} ET"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        "/Resources << /Font << /F1 5 0 R >> >> >>",
        f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    content, places = "%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(content))
        content += f"{number} 0 obj\n{body}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"xref\n0 6\n0000000000 65535 f \n{table}trailer << /Size 6 /Root 1 0 R >>\n"
    path.write_text(f"{content}{end}startxref\n{len(content)}\n%%EOF\n", encoding="utf-8")


def docx(path: Path) -> None:
    main = "http://schemas.openxmlformats.org"
    body = "".join(f"<w:p><w:r><w:t>{line}</w:t></w:r></w:p>" for line in LINES)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{main}/package/2006/content-types"><Default Extension="rels" ContentType='
            '"application/vnd.openxmlformats-package.relationships+xml"/><Override PartName='
            '"/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.'
            'wordprocessingml.document.main+xml"/></Types>',
        )
        file.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{main}/package/2006/relationships"><Relationship Id="rId1" '
            f'Type="{main}/officeDocument/2006/relationships/officeDocument" '
            'Target="word/document.xml"/></Relationships>',
        )
        file.writestr(
            "word/document.xml",
            f'<w:document xmlns:w="{main}/wordprocessingml/2006/main"><w:body>{body}</w:body>'
            "</w:document>",
        )


def page(path: Path) -> None:
    body = "".join(f"<p>{line}</p>" for line in LINES)
    path.write_text(
        f"<html><head><title>T</title><style>p {{}}</style></head><body>{body}"
        "<script>hidden()</script></body></html>",
        encoding="utf-8",
    )


def epub(path: Path) -> None:
    package = "http://www.idpf.org/2007/opf"
    body = "".join(f"<p>{line}</p>" for line in LINES)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("mimetype", "application/epub+zip")
        file.writestr(
            "META-INF/container.xml",
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="book.opf"/></rootfiles></container>',
        )
        file.writestr(
            "book.opf",
            f'<package xmlns="{package}"><metadata/><manifest><item id="a" href="a.xhtml" '
            'media-type="application/xhtml+xml"/></manifest><spine><itemref idref="a"/></spine>'
            "</package>",
        )
        file.writestr("a.xhtml", f"<html><body>{body}</body></html>")


WRITERS: dict[str, Callable[[Path], None]] = {
    "a.pdf": pdf,
    "a.docx": docx,
    "a.html": page,
    "a.htm": page,
    "a.epub": epub,
}
WITH_PACKAGE = pytest.mark.skipif(not document.can_read(), reason="needs markitdown")


@WITH_PACKAGE
@pytest.mark.parametrize("name", WRITERS)
def test_a_document_is_text_everywhere(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    (row,) = everywhere(tmp_path, source=name, documents="file").rows
    assert all(line in row["text"] for line in LINES)
    assert "hidden" not in row["text"]
    split = everywhere(tmp_path, source=name, documents="paragraph").rows
    assert [r["text"] for r in split][-2:] == list(LINES)


@WITH_PACKAGE
def test_documents_and_text_in_a_folder_and_an_archive(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    pdf(tmp_path / "f" / "a.pdf")
    page(tmp_path / "f" / "b.html")
    (tmp_path / "f" / "c.txt").write_text("text", encoding="utf-8")
    assert len(everywhere(tmp_path, source="f", documents="file").rows) == 3
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
        for member in (tmp_path / "f").iterdir():
            file.write(member, member.name)
    assert len(everywhere(tmp_path, source="all.zip", documents="file").rows) == 3


@WITH_PACKAGE
@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.pdf", b"%PDF-1.4 nothing more", "corrupt_document"),
        ("a.docx", b"PK\x03\x04 nothing more", "corrupt_document"),
        ("a.epub", b"no book", "corrupt_document"),
        ("a.html", b"<html><body></body></html>", "no_text"),
        ("a.html", b"", "empty_file"),
    ],
)
def test_a_document_without_text_is_refused(
    name: str, content: bytes, code: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    (found,) = problems(tmp_path, source=name)
    assert found.code == code
    assert name in found.sentence
    assert found.hint


@WITH_PACKAGE
def test_a_web_page_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes("<p>Растениям нужен свет.</p>".encode("cp1251"))
    found = everywhere(tmp_path, source="a.html", documents="file")
    assert found.rows == [{"text": "Растениям нужен свет."}]
    assert found.warnings == ["detected_encoding"]


@WITH_PACKAGE
def test_a_changed_document_is_converted_again(tmp_path: Path) -> None:
    page(tmp_path / "a.html")
    everywhere(tmp_path, source="a.html", documents="file")
    (tmp_path / "a.html").write_text("<p>Other words.</p>", encoding="utf-8")
    (row,) = everywhere(tmp_path, source="a.html", documents="file").rows
    assert row["text"] == "Other words."


def test_without_the_package_its_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "can_read", lambda: False)
    monkeypatch.setattr(folder, "can_read", lambda: False)
    (tmp_path / "f").mkdir()
    pdf(tmp_path / "f" / "a.pdf")
    for source in ("f/a.pdf", "f"):
        (found,) = problems(tmp_path, source=source)
        assert found.code == "missing_package"
        assert "a.pdf" in found.sentence
        assert f'-m pip install "{document.REQUIREMENT}"' in found.hint
    (tmp_path / "f" / "b.txt").write_text("text", encoding="utf-8")
    (warning,) = problems(tmp_path, source="f", split_mode="none")
    assert (warning.code, warning.severity) == ("files_skipped", "warning")
    assert "Ignored 1 document in f" in warning.sentence
    assert document.REQUIREMENT in warning.hint
    with open_window(DatasetSettings(source="f"), tmp_path, VARIANTS["format"]) as window:
        assert [r.data for r in window.rows(1, 9)] == [{"text": "text"}]


def test_the_command_installs_what_the_project_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["optional-dependencies"]["documents"] == [document.REQUIREMENT]
