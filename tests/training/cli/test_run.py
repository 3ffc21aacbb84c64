"""What the training commands have in common."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from featplug.training.cli.run import Run
from featplug.training.sift_pairs import SIFTPairs
from tests.worlds import write_textured_images


def test_of_two_processes_one_prepares_the_data(tmp_path: Path) -> None:
    write_textured_images(tmp_path / "images", 2, width=340, height=260)
    code = (
        "from pathlib import Path\n"
        "from featplug.training.cli.run import Run\n"
        "from featplug.training.sift_pairs import SIFTPairs, make_sift_pairs\n"
        f"root = Path({str(tmp_path)!r})\n"
        "run = Run(root / 'images', root / 'run', device='cpu')\n"
        "made = make_sift_pairs(run.images, root / 'pairs.h5', run.names(), num_workers=0)\n"
        "run.prepare('pairs', made)\n"
        "SIFTPairs(root / 'pairs.h5').require(run.names())\n"
    )
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, **shared, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert "photograph" in errors[0]
    assert "photograph" not in errors[1]
    assert SIFTPairs(tmp_path / "pairs.h5").names() == ["000.png", "001.png"]


def test_one_photograph_is_refused_before_anything_is_made_of_it(tmp_path: Path) -> None:
    write_textured_images(tmp_path / "images", 1, width=64, height=48)
    with pytest.raises(ValueError, match="at least two photographs; there are 1"):
        Run(tmp_path / "images", tmp_path / "run").names()
