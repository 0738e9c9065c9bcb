"""The training loop: optimizer, scheduler, loss, evaluation, samples, checkpoints and stopping."""
