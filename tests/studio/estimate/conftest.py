"""The fixtures of the training tests that these need too."""

from tests.studio.training.conftest import quiet_transformers

__all__ = ["quiet_transformers"]
