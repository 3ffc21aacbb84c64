"""``featplug`` and ``python -m featplug``."""

from __future__ import annotations

import os
import sys

from featplug.cli.app import app
from featplug.cli.runner import run_command

# Before a command imports torch; see pipelines/__init__.py.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["hloc"]:  # whose other arguments are not ours
        from featplug.cli.hloc_command import run_hloc

        run_hloc(sys.argv[2:], prog="featplug hloc")
    else:
        run_command(app, prog="featplug")


if __name__ == "__main__":
    main()
