"""Run the tests with the lowest versions of the dependencies that pyproject.toml allows.

``python -m tests.lowest_versions``: a virtual environment gets the lower bound of every direct
dependency, resolved by uv, and all but the slow tests run in it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

from featplug.cli.command_line import run_command
from tests.conftest import REPOSITORY


def main(folder: Path = Path("outputs/lowest-versions")) -> None:
    """Run the tests with the lowest versions of the dependencies.

    Args:
        folder: Folder of the virtual environment.
    """
    python = folder.resolve() / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "uv"], check=True)
    resolve = ["-m", "uv", "pip", "install", "--quiet", "--resolution", "lowest-direct"]
    subprocess.run([python, *resolve, "--editable", f"{REPOSITORY}[dev]"], check=True)
    tests = subprocess.run(
        [python, "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", "-m", "not slow"],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    sys.exit(tests.returncode)


if __name__ == "__main__":
    run_command(main, prog="python -m tests.lowest_versions")
