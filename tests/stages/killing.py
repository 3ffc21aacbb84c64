"""A process that is killed while it writes a file."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


class Killer:
    """Starts a function in processes of its own and kills each after it has begun to write.

    Args:
        preload: Modules that every process shares, so that it starts in milliseconds.
    """

    def __init__(self, preload: Sequence[str]) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))
        self.num_hits = 0
        """Number of kills that came after a process had written and before it had ended."""

    def kill(
        self, target: Callable[..., Any], args: tuple[Any, ...], path: Path, wait: float
    ) -> None:
        """Run ``target(*args)`` and kill it so many seconds after ``path`` has grown."""
        size = path.stat().st_size if path.exists() else 0
        process = self._context.Process(target=target, args=args)
        process.start()
        deadline = time.monotonic() + 60
        while process.is_alive() and not (path.exists() and path.stat().st_size > size):
            assert time.monotonic() < deadline, f"nothing was written to {path.name}"
            time.sleep(0.001)
        time.sleep(wait)
        process.kill()
        process.join()
        self.num_hits += process.exitcode == -signal.SIGKILL
