"""The bridge to Qt, small on purpose: run thread, event batches, telemetry, one-off tasks."""
