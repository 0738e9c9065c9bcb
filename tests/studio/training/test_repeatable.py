"""“Repeatable on a GPU”, with a simulated GPU: torch's settings during a training, and the errors that it may raise."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from studio.errors import StudioError
from studio.training.loop import repeatable, train
from studio.training.loop.repeatable import deterministic_kernels
from studio.training.loop.train import identity_of, train_adapter
from studio.values import AdaptedModelValue, DatasetValue
from tests.studio.training.steps import Recorder, make_context, make_inputs, settings_of

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in repeatable._VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("wanted", "device", "expected"),
    [(True, CUDA, True), (False, CUDA, False), (True, CPU, False)],
)
def test_torch_computes_deterministically_where_it_is_wanted(
    wanted: bool, device: torch.device, expected: bool
) -> None:
    with deterministic_kernels(wanted, device):
        assert torch.are_deterministic_algorithms_enabled() is expected
        assert (
            not torch.is_deterministic_algorithms_warn_only_enabled()
        )  # attention would ignore it
        assert (os.environ.get("CUBLAS_WORKSPACE_CONFIG") == ":4096:8") is expected
        assert (os.environ.get("FLASH_ATTENTION_DETERMINISTIC") == "1") is expected
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_workspace_of_the_user_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with deterministic_kernels(True, CUDA):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_an_operation_without_a_deterministic_kernel_is_a_sentence() -> None:
    """With torch's words, as it raises them."""
    said = (
        "put_ does not have a deterministic implementation, but you set "
        "'torch.use_deterministic_algorithms(True)'. You can turn off determinism just for this operation"
    )
    with (
        pytest.raises(StudioError, match="GPU: put_ does not have a deterministic impl") as caught,
        deterministic_kernels(True, CUDA),
    ):
        raise RuntimeError(said)
    assert (caught.value.field, caught.value.code) == ("repeatable", "not_repeatable")
    assert not torch.are_deterministic_algorithms_enabled()
    with (
        pytest.raises(RuntimeError, match="shape"),
        deterministic_kernels(True, CUDA),
    ):
        raise RuntimeError("shape mismatch")


@pytest.mark.parametrize("wanted", [False, True])
def test_a_whole_training_computes_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    """From the first weight to the last step."""
    seen: list[bool] = []

    def note(*_: object, **__: object) -> None:
        seen.append(torch.are_deterministic_algorithms_enabled())

    class Noting(Recorder):
        def __call__(self, event: object) -> None:
            note()
            super().__call__(event)  # type: ignore[arg-type]

    recorder = Noting()
    real = deterministic_kernels
    monkeypatch.setattr(train, "deterministic_kernels", lambda on, device: real(on, CUDA))
    settings = settings_of(repeatable=wanted, max_steps=2)
    train_adapter(make_context(tmp_path, recorder), make_inputs(tmp_path), settings)
    in_steps = [s for s, e in zip(seen, recorder.events, strict=True) if e.name == "Metric"]
    assert in_steps == [wanted] * 2


def test_the_switch_belongs_to_the_training(tmp_path: Path) -> None:
    """A checkpoint with other kernels is of another training; those from before the switch stay usable."""
    inputs = make_inputs(tmp_path)
    adapted = AdaptedModelValue.model_validate(inputs["model"])
    dataset = DatasetValue.model_validate(inputs["dataset"])
    off, on = (identity_of(adapted, dataset, settings_of(repeatable=r)) for r in (False, True))
    assert off == identity_of(adapted, dataset, settings_of())
    assert on != off
