"""The former name of :mod:`benchmarks.run`."""

import sys
from collections.abc import Sequence
from typing import NoReturn

from featplug.cli.command_line import run_command
from featplug.cli.program import Command


def main(arguments: Sequence[str], prog: str) -> NoReturn:
    """Raise ValueError, which names the new command."""
    raise ValueError(
        "`bench suite` is now `featplug bench run SUITE.toml`, whose blocks name the data: see "
        "`featplug bench run --help`."
    )


if __name__ == "__main__":
    command = Command("benchmarks.suite:main", "Renamed to run.", reads_own_arguments=True)
    run_command(command, "python -m benchmarks.suite", sys.argv[1:])
