"""Estimates of a training, and proposed settings: “Make it fit”, recipe."""
