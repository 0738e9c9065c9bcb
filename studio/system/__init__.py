"""The machine: paths, disk, hardware, child processes, program settings."""
