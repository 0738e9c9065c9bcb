"""Tests of the dialogs, with real keys and mouse."""
