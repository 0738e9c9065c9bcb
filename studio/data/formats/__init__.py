"""One file per dataset format; each has a constant VARIANT."""
