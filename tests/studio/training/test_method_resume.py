"""An interrupted and resumed training of any method ends with the numbers of an uninterrupted one."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.errors import Stopped
from studio.training.loop.train import train_adapter
from tests.studio.training.methods import METHODS, each, inputs_for, train_settings
from tests.studio.training.steps import Recorder, make_context

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:peft")

# Those with a state or a start of their own: ranks in use, directions of the data, random matrices.
STATEFUL = ["adalora", "eva", "pissa", "corda", "lora_ga", "vera", "vblora", "lora_plus"]
OTHERS = [m for m in METHODS if m not in STATEFUL and not METHODS[m].payload.only_quantized]


@pytest.mark.parametrize("method", each(STATEFUL))
def test_a_method_with_a_state_resumes(tmp_path: Path, method: str) -> None:
    assert_same(tmp_path, method)


@pytest.mark.slow(seconds=1)
@pytest.mark.parametrize("method", OTHERS)
def test_every_other_method_resumes(tmp_path: Path, method: str) -> None:
    assert_same(tmp_path, method)


def test_a_fast_svd_resumes_with_its_random_start(tmp_path: Path) -> None:
    """It would be another one if it were computed again."""
    assert_same(tmp_path, "pissa", method_settings={"niter": 4})


def test_trained_tokens_resume(tmp_path: Path) -> None:
    """Their rows and the optimizer's state of them."""
    assert_same(tmp_path, "lora", trained_tokens=[1, 70])


def assert_same(root: Path, method: str, **adapter: object) -> None:
    """Every loss and every byte of the adapter, after a stop at the third of six steps."""
    settings = train_settings(method, max_steps=6, save_steps=100)
    adapter = {"dropout": 0.0 if method == "ln_tuning" else 0.1, **adapter}
    whole, first, second = Recorder(), Recorder(), Recorder()
    inputs = inputs_for(root / "whole", method, **adapter)
    train_adapter(make_context(root / "whole", whole), inputs, settings)
    again = inputs_for(root / "again", method, **adapter)
    stopping = make_context(root / "again", first, lambda: len(first.losses()) >= 3)
    with pytest.raises(Stopped):
        train_adapter(stopping, again, settings)
    train_adapter(make_context(root / "again", second), again, settings)
    assert [e.get("step") for e in second.named("TrainResumed")] == [3]
    assert first.losses() + second.losses() == whole.losses()
    assert weights(root / "again") == weights(root / "whole")


def weights(root: Path) -> bytes:
    """The adapter's file."""
    return (root / "step" / "adapter" / "adapter_model.safetensors").read_bytes()
