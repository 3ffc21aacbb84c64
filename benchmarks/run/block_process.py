"""A benchmark in a process of its own, whose death ends no other, and which ends with its parent.

``python -m benchmarks.run.block_process COMMAND --config FILE`` is ``featplug bench COMMAND
--config FILE``, which ends when its standard input does.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from featplug.utils.interrupts import SIGNALS

_STOPPED = {128 + number for number in SIGNALS}
"""Exit codes of a command that a signal asked to end."""


class BlockProcess:
    """A benchmark that runs in a process.

    Args:
        command: name of the benchmark's command.
        config: file with its options.
        log: file for everything it prints.
        num_threads: number of threads for each library; None for the library's own.
    """

    def __init__(self, command: str, config: Path, log: Path, num_threads: int | None) -> None:
        self._log = log
        environment = dict(os.environ)
        if num_threads is not None:
            environment.setdefault("OMP_NUM_THREADS", str(num_threads))
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603  # our own module
                [sys.executable, "-m", __name__, command, "--config", str(config)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # so that what it starts ends with it
            )

    def is_running(self) -> bool:
        """Return whether the process runs."""
        return self._process.poll() is None

    @property
    def is_killed(self) -> bool:
        """Whether the process died by a signal, or by a fault of native code."""
        code = self._process.returncode
        return code not in (0, 1, 2, *_STOPPED)

    @property
    def failure(self) -> str | None:
        """Reason for which the process failed; None where it did not."""
        code = self._process.returncode
        if code == 0:
            return None
        if self.is_killed:
            return f"its process was ended by {_name_of(code)}; {self._log} has its last words"
        if code in _STOPPED:
            return "its process was asked to end; run the suite again"
        lines = self._log.read_text("utf-8", "replace").replace("\r", "\n").strip().splitlines()
        last = lines[-1].removeprefix("featplug: ") if lines else ""
        return last if code == 2 else f"{last or 'an unknown error'}; see {self._log}"

    def end(self) -> None:
        """Ask the process to end, and wait for it."""
        if self.is_running():
            self._process.terminate()
        self._process.wait()
        if os.name == "posix":
            with suppress(ProcessLookupError):  # of a group without processes
                os.killpg(self._process.pid, signal.SIGKILL)


def _name_of(code: int) -> str:
    """Return the name of the signal, or the code, that a process ended with."""
    try:
        name = signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"
    return f"{name}, as for lack of memory" if name == "SIGKILL" else name


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # returns when the process that holds the other end is gone
    if os.name == "posix" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # with the processes that it has started
    os._exit(1)


def main(arguments: Sequence[str]) -> None:
    """Run a benchmark as its command does."""
    from featplug.cli.command_line import run_command
    from featplug.cli.program import PROGRAM

    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.argv = ["featplug", "bench", *arguments]  # what the record of the run shows
    run_command(PROGRAM, prog="featplug")


if __name__ == "__main__":
    main(sys.argv[1:])
