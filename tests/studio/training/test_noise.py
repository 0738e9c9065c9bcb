"""NEFTune's noise has the size that the paper gives it, and ends with the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio.training.batch.batches import concatenate_rows, pad_rows
from studio.training.loop.noise import noisy_embeddings
from studio.training.loop.train import train_adapter
from tests.studio.training.adapters import plain_model
from tests.studio.training.steps import Recorder, make_context, make_inputs, settings_of
from tests.studio.training.test_batching import rows_of
from tests.tiny import make_tiny_model

pytestmark = pytest.mark.usefixtures("quiet_transformers")


@pytest.mark.parametrize("padding_free", [False, True])
def test_the_noise_is_the_papers(tmp_path: Path, padding_free: bool) -> None:
    """alpha / sqrt(L d) times a uniform number, with the row's own length L; none on padding."""
    import torch

    model = plain_model(make_tiny_model(tmp_path / "model"))
    embeddings = model.get_input_embeddings()
    rows, lengths = rows_of((5, 20)), torch.tensor([5, 20])
    batch = concatenate_rows(rows, [0, 1]) if padding_free else pad_rows(rows, [0, 1], 0)
    plain = embeddings(batch["input_ids"])
    torch.manual_seed(3)
    with noisy_embeddings(model, batch, 7.0), torch.no_grad():
        noisy = embeddings(batch["input_ids"])
    torch.manual_seed(3)
    uniform = torch.empty_like(plain).uniform_(-1, 1)
    reach = 7.0 / (lengths * plain.shape[-1]).sqrt()
    if padding_free:
        wanted = uniform * reach.repeat_interleave(lengths)[None, :, None]
    else:
        wanted = uniform * reach[:, None, None] * batch["attention_mask"][..., None]
    assert torch.allclose(noisy - plain, wanted, atol=1e-6)
    assert torch.equal(embeddings(batch["input_ids"]), plain)


def trained(root: Path, **settings: Any) -> tuple[Recorder, Any]:
    told = Recorder()
    value = train_adapter(
        make_context(root, told), make_inputs(root, 12, 4), settings_of(**settings)
    )
    return told, value


def test_noise_is_in_the_training_and_nowhere_else(tmp_path: Path) -> None:
    """Not in the validation loss, and the reloaded adapter does what the trained one did."""
    frozen = {"max_steps": 2, "learning_rate": 1e-12, "eval_steps": 1}
    plain, _ = trained(tmp_path / "plain", **frozen)
    noisy, value = trained(tmp_path / "noisy", **frozen, neftune_alpha=50.0)
    assert abs(noisy.losses()[0] - plain.losses()[0]) > 1e-3
    assert evals(noisy) == evals(plain)
    assert value.reload_difference <= 1e-6


def evals(told: Recorder) -> list[float]:
    found = [e.get("eval_loss") for e in told.named("Metric")]
    return [loss for loss in found if loss is not None]
