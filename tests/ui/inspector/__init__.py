"""Tests of the inspector, with real keys and mouse."""
