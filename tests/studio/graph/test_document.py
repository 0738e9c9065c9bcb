"""The document: undo is a list of graphs, and listeners hear of every change."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from studio.graph import edits
from studio.graph.document import HISTORY_LIMIT, Document
from studio.graph.graph import Graph, Node
from tests.studio.graph.strategies import graphs


def named(name: str) -> Graph:
    return Graph(name)


def test_typing_in_one_field_is_one_step() -> None:
    document = Document(Graph(nodes=(Node("a", "any"),)))
    for value in (1, 12, 123):
        document.edit(edits.set_setting(document.graph, "a", "r", value), "Change r", "a.r")
    document.edit(edits.set_setting(document.graph, "a", "alpha", 1), "Change alpha", "a.alpha")
    assert document.undo_label == "Change alpha"
    document.undo()
    assert document.graph.node("a").settings == {"r": 123}
    document.undo()
    assert document.graph.node("a").settings == {}
    assert document.undo_label is None
    document.redo()
    assert document.graph.node("a").settings == {"r": 123}
    assert document.redo_label == "Change alpha"


def test_typing_and_typing_back_leaves_nothing_to_undo() -> None:
    document = Document(named("0"))
    document.edit(named("1"), "First")
    for name in ("12", "123", "12", "1"):
        document.edit(named(name), "Rename", "name")
    assert document.undo_label == "First"
    document.edit(named("15"), "Rename", "name")
    document.undo()
    assert document.graph.name == "1"
    document.undo()
    assert document.graph.name == "0"


def test_typing_after_undo_or_redo_is_a_step_of_its_own() -> None:
    """Under a step that stays, so that a merge would have one to join."""
    for last in (Document.undo, Document.redo):
        document = Document(named("0"))
        document.edit(named("1"), "Type", "field")
        document.end_merge()
        document.edit(named("2"), "Type", "field")
        document.undo()
        if last is Document.redo:
            document.redo()
        before = document.graph
        document.edit(named("3"), "Type", "field")
        document.undo()
        assert document.graph == before


def test_a_merge_ends_with_the_gesture_an_undo_or_a_save() -> None:
    document = Document(named("0"))
    document.edit(named("1"), "Rename", "name")
    document.end_merge()
    document.edit(named("2"), "Rename", "name")
    document.undo()
    assert document.graph.name == "1"
    document.edit(named("3"), "Rename", "name")
    document.mark_saved(Path("x.studio"))
    document.edit(named("4"), "Rename", "name")
    document.undo()
    assert document.graph.name == "3"


def test_an_edit_clears_what_could_be_redone() -> None:
    document = Document(named("0"))
    document.edit(named("1"), "One")
    document.undo()
    document.edit(named("2"), "Two")
    document.redo()
    assert document.graph.name == "2"
    assert document.redo_label is None


def test_dirty_means_different_from_the_file() -> None:
    document = Document(named("0"))
    assert not document.dirty
    document.edit(named("1"), "One")
    assert document.dirty
    document.undo()
    assert not document.dirty
    document.redo()
    document.mark_saved(Path("/p/x.studio"))
    assert not document.dirty
    assert document.project_dir == Path("/p")
    document.undo()
    assert document.dirty
    document.edit(named("1"), "Again")
    assert not document.dirty


def test_replacing_starts_over() -> None:
    document = Document(named("0"))
    document.edit(named("1"), "One")
    document.replace(named("other"), None)
    document.undo()
    assert document.graph.name == "other"
    assert not document.dirty
    assert document.project_dir == Path.cwd()


def test_listeners() -> None:
    document, heard = Document(named("0")), []
    end = document.listen(lambda: heard.append(document.graph.name))
    document.edit(named("1"), "One")
    document.edit(named("1"), "Nothing new")
    document.undo()
    document.undo()
    document.redo()
    document.mark_saved(Path("x"))
    end()
    document.undo()
    assert heard == ["1", "0", "1", "1"]


def test_history_has_an_end() -> None:
    document = Document(named("0"))
    for number in range(HISTORY_LIMIT + 50):
        document.edit(named(str(number + 1)), "Rename")
    for _ in range(HISTORY_LIMIT + 50):
        document.undo()
    assert document.graph.name == "50"


@given(st.lists(st.one_of(graphs(), st.sampled_from(["undo", "redo"])), max_size=12))
def test_undo_and_redo_are_inverse(moves: list) -> None:
    document = Document()
    past, future = [document.graph], []
    for move in moves:
        if move == "undo":
            document.undo()
            if len(past) > 1:
                future.append(past.pop())
        elif move == "redo":
            document.redo()
            if future:
                past.append(future.pop())
        else:
            if move != document.graph:
                past.append(move)
                future.clear()
            document.edit(move, "Edit")
        assert document.graph is past[-1] or document.graph == past[-1]
