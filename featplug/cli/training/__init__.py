"""The commands of ``python -m featplug.training``."""
