"""``featplug`` and ``python -m featplug``."""

from __future__ import annotations

import os

from featplug.cli import app, run_command

# Before a command imports torch; see pipelines/__init__.py.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def main() -> None:
    """Run the command line."""
    run_command(app, prog="featplug")


if __name__ == "__main__":
    main()
