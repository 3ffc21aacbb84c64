"""Run the tests that use COLMAP on every supported pycolmap.

``python -m tests.pycolmap_matrix``: each version gets a virtual environment of its own, with all
other packages from the running one, and the tests that take models, databases or poses to COLMAP
run in it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from featplug.cli.command_line import run_command

VERSIONS = ("3.13.0", "4.0.4", "4.1.1", "4.2.1")
"""The last of each supported series."""
TESTS = (
    "tests/io/exchange/test_colmap.py",
    "tests/localization/test_absolute_pose.py",
    "tests/colmap/test_cameras.py",
    "tests/colmap/test_known_cameras.py",
    "tests/colmap/test_wide_cameras.py",
    "tests/colmap/test_database.py",
    "tests/colmap/test_database_rows.py",
    "tests/colmap/test_dense.py",
    "tests/colmap/test_model_files.py",
    "tests/colmap/test_geometric_verification.py",
    "tests/colmap/test_colours.py",
    "tests/colmap/test_mapping.py",
    "tests/metrics/test_poses.py",
    "tests/localization/test_queries.py",
    "tests/stages/test_map.py",
    "tests/stages/test_triangulate.py",
    "tests/localization/test_localizer.py",
    "tests/pipelines/datasets/test_aachen.py",
)
_REPOSITORY = Path(__file__).resolve().parents[1]


def make_environment(folder: Path, version: str) -> Path:
    """Make a virtual environment with that pycolmap, unless it exists; return its Python."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        # After its own packages, so that its pycolmap wins.
        own = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
        (own / "zz-others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    installed = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-deps", f"pycolmap=={version}"],
        check=False,
    )
    if installed.returncode:
        raise ValueError(f"pycolmap {version} cannot be installed into {folder}.")
    return python


def main(
    versions: tuple[str, ...] = VERSIONS, folder: Path = Path("outputs/pycolmap-matrix")
) -> None:
    """Run the tests that use COLMAP on every supported pycolmap.

    Args:
        versions: of pycolmap.
        folder: gets a virtual environment for each version.
    """
    outcome = {}
    for version in versions:
        python = make_environment(folder.resolve() / version, version)
        run = subprocess.run(
            [python, "-m", "pytest", "-p", "no:cacheprovider", "--durations=0", *TESTS],
            cwd=_REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(_REPOSITORY)},
            capture_output=True,
            text=True,
            check=False,
        )
        failed = [line for line in run.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        if run.returncode and not failed:
            failed = (run.stdout + run.stderr).splitlines()[-3:]
        outcome[version] = "all tests pass" if run.returncode == 0 else "; ".join(failed)
        print(f"pycolmap {version}: {outcome[version]}", flush=True)
    if any(text != "all tests pass" for text in outcome.values()):
        sys.exit(1)


if __name__ == "__main__":
    run_command(main, prog="python -m tests.pycolmap_matrix")
