"""How every command of the project reads its arguments and fails."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

import tyro


def run_command(command: Callable[..., Any] | tyro.extras.SubcommandApp, prog: str) -> None:
    """Run a typed function, or one of several, as a command line.

    Options can be typed with ``-`` or ``_``. A bad input ends with one line and exit code 2.

    Args:
        command: the function or functions.
        prog: how the command is called, for its messages.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for package in ("featplug", "pipelines", "benchmarks"):
        logging.getLogger(package).setLevel(logging.INFO)
    try:
        if isinstance(command, tyro.extras.SubcommandApp):
            command.cli(prog=prog)
        else:
            tyro.cli(command, prog=prog)
    except (ValueError, OSError) as error:
        print(f"{prog}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        again = (
            "run it again, without --overwrite," if "--overwrite" in sys.argv else "run it again"
        )
        print(f"{prog}: stopped; {again} to go on.", file=sys.stderr)
        sys.exit(130)
