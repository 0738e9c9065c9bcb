"""The training itself: optimizer, schedule, loss, measurements, checkpoints and why it ends."""
