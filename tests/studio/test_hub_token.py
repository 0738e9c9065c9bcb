"""The token of the Hub: where it is looked for, and that the keyring is the only place where it is stored."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from studio.errors import StudioError
from studio.export_folder.hub import is_offline
from studio.graph.edits import set_setting
from studio.graph.graph import Graph, Node, Wire
from studio.graph.registry import load_registry
from studio.node_settings.repository_name import branch_fault, repository_fault
from studio.runs.plan import compile_plan
from studio.system import hub_token


class Backend:
    """What ``keyring`` offers, in memory; with ``fails`` as a computer without one."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}
        self.fails: Exception | None = None

    def get_password(self, service: str, name: str) -> str | None:
        if self.fails is not None:
            raise self.fails
        return self.kept.get((service, name))

    def set_password(self, service: str, name: str, text: str) -> None:
        if self.fails is not None:
            raise self.fails
        self.kept[service, name] = text

    def delete_password(self, service: str, name: str) -> None:
        del self.kept[service, name]


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[Backend]:
    """A keyring of this test, on a computer without other tokens."""
    backend = Backend()
    module = types.ModuleType("keyring")
    for name in ("get_password", "set_password", "delete_password"):
        setattr(module, name, getattr(backend, name))
    monkeypatch.setitem(sys.modules, "keyring", module)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("huggingface_hub.utils._auth.constants.HF_TOKEN_PATH", str(tmp_path / "t"))
    hub_token._seen.clear()
    yield backend
    hub_token._seen.clear()


def test_the_variable_comes_before_the_keyring(
    keyring: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub_token.find_token() is None
    assert hub_token.environment() == {}
    assert hub_token.is_known() is False
    hub_token.keep_token("  hf_mine\n")
    found = hub_token.find_token()
    assert found is not None
    assert (found.text, found.source) == ("hf_mine", "the keyring")
    assert "hf_mine" not in repr(found)
    assert hub_token.environment() == {"HF_TOKEN": "hf_mine"}
    assert hub_token.is_known() is True
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert hub_token.environment() == {"HF_TOKEN": "hf_other"}
    monkeypatch.delenv("HF_TOKEN")
    hub_token.remove_token()
    assert hub_token.find_token() is None
    assert hub_token.is_known() is False


def test_a_computer_without_a_keyring_is_told_what_else_works(keyring: Backend) -> None:
    class NoKeyringError(RuntimeError):
        pass

    keyring.fails = NoKeyringError("No recommended backend was available.")
    with pytest.raises(
        StudioError, match="no keyring in which the token could be stored"
    ) as caught:
        hub_token.keep_token("hf_mine")
    assert "HF_TOKEN" in caught.value.hint
    assert hub_token.find_token() is None
    keyring.fails = RuntimeError("The keyring is locked.")
    with pytest.raises(StudioError, match=r"refused it \(The keyring is locked\)\."):
        hub_token.remove_token()


def test_a_missing_package_is_named_with_its_command(
    keyring: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(StudioError, match="the package keyring is not installed") as caught:
        hub_token.keep_token("hf_mine")
    assert 'pip install "keyring' in caught.value.hint
    assert hub_token.kept_token() == ""


def test_the_real_keyring_says_that_it_has_no_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    real = pytest.importorskip("keyring")
    from keyring.backends.fail import Keyring

    before = real.get_keyring()
    real.set_keyring(Keyring())
    try:
        with pytest.raises(StudioError, match="no keyring in which the token could be stored"):
            hub_token.keep_token("hf_mine")
        assert hub_token.kept_token() == ""
    finally:
        real.set_keyring(before)


@pytest.mark.parametrize("text", ["", "  ", "hf a", "hf_é", "hf\x00a"])
def test_what_is_no_token_is_not_stored(keyring: Backend, text: str) -> None:
    with pytest.raises(StudioError, match="not a token of the Hub"):
        hub_token.keep_token(text)
    assert keyring.kept == {}


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("me/model", True),
        ("My-Org_1/a.b-c", True),
        ("model", False),
        ("a/b/c", False),
        ("me/", False),
        ("me/ü", False),
        ("me/a b", False),
        ("-me/a", False),
        ("me/a.", False),
        ("me/a--b", False),
        ("me/a..b", False),
        ("me/a.git", False),
        ("me/" + "a" * 96, True),
        ("me/" + "a" * 97, False),
    ],
)
def test_names_of_repositories_are_those_that_the_client_accepts(name: str, good: bool) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    assert (repository_fault(name) == "") is good
    if good:
        validate_repo_id(name)
    elif name not in ("model", "me/"):
        with pytest.raises(HFValidationError):
            validate_repo_id(name)


def test_names_of_branches() -> None:
    assert not any(branch_fault(n) for n in ("main", "v1.0", "feature/a-b"))
    assert all(
        branch_fault(n) for n in ("a b", "a..b", "/a", "a/", "-a", "a.lock", "a~1", "@", ".a")
    )


def test_offline_is_what_the_client_takes_for_it() -> None:
    assert is_offline({"HF_HUB_OFFLINE": "1"})
    assert is_offline({"TRANSFORMERS_OFFLINE": "yes"})
    assert not is_offline({"HF_HUB_OFFLINE": "0"})
    assert not is_offline({})


def problems(graph: Graph, root: Any) -> dict[str, Any]:
    found = compile_plan(graph, load_registry(), root).problems
    return {p.code: p for p in found if p.node == "export"}


def test_the_check_names_what_is_missing(
    keyring: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    nodes = (Node("base", "base_model"), Node("export", "export", {"format": "hub"}))
    graph = Graph("One", nodes, (Wire("base", "model", "export", "model"),))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = problems(graph, tmp_path)
    assert {"no_repository", "hub_offline"} <= set(found)
    assert found["no_repository"].field == "format_settings.repository"
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    found = problems(graph, tmp_path)
    assert {"no_repository", "no_token"} <= set(found)
    assert "File, Hugging Face Token" in found["no_token"].hint
    hub_token.keep_token("hf_mine")
    graph = set_setting(graph, "export", "format_settings", {"repository": "me"})
    (problem,) = [p for p in problems(graph, tmp_path).values() if p.blocks]
    assert "owner/name" in problem.sentence
    graph = set_setting(graph, "export", "format_settings", {"repository": "me/model"})
    assert not [p for p in problems(graph, tmp_path).values() if p.blocks]
