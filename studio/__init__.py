"""LoRA Studio: the domain and the engine, without Qt.

Importing this package, or any light module in it, never imports torch; the heavy libraries live in
``studio.training`` and are imported inside functions elsewhere.
"""

__version__ = "0.1.0"
