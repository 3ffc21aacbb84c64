"""Two processes as ``torchrun`` starts them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import NamedTuple


class Ended(NamedTuple):
    """What one process left."""

    returncode: int
    output: str
    errors: str


def run_two_processes(code: str) -> list[Ended]:
    """Run Python code as rank 0 and as rank 1, and wait for both."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    texts = [process.communicate(timeout=300) for process in processes]
    return [Ended(p.returncode, *text) for p, text in zip(processes, texts, strict=True)]
