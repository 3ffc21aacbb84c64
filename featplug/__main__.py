"""``featplug`` and ``python -m featplug``."""

import os

from featplug.cli.command_line import run_command
from featplug.cli.program import PROGRAM

# Before a command imports torch; see pipelines/__init__.py.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def main() -> None:
    """Run the command line."""
    run_command(PROGRAM, prog="featplug")


if __name__ == "__main__":
    main()
