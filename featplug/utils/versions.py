"""Versions of the libraries that matter here, and which are known not to work together."""

import functools
import re
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata, util
from pathlib import Path

LIBRARIES = ("torch", "pycolmap", "numpy", "h5py", "kornia", "hloc")
"""Distributions whose versions are reported, besides OpenCV's; the last two are optional."""
OPENCV = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)


def installed_versions(distributions: Iterable[str] = (*LIBRARIES, *OPENCV)) -> dict[str, str]:
    """Return the versions of those distributions that are installed, without imports."""
    versions = {}
    for name in distributions:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name == "hloc" and util.find_spec(name) is not None:
                versions[name] = "(a folder on the path)"
    return versions


def source_commit() -> str | None:
    """Return the commit of the checkout that featplug runs from; None for an installed package."""
    return commit_of(Path(__file__).resolve().parents[1])


@functools.cache
def commit_of(package: Path) -> str | None:
    """Return the commit of the checkout that a package, its folder, is at the top of, or None."""
    command = ["git", "-C", str(package), "rev-parse", "--show-prefix", "HEAD"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
    answer = run.stdout.split()
    # A package that is installed somewhere below another project's checkout has a longer prefix.
    return answer[1] if answer[:1] == [f"{package.name}/"] else None


def known_problems(versions: Mapping[str, str], environment: Mapping[str, str]) -> list[str]:
    """List the versions and settings that are known not to work, or not together.

    Returns:
        One sentence for each, with the remedy.
    """
    problems = []
    pycolmap = versions.get("pycolmap", "")
    if pycolmap and release(pycolmap) < (3, 13):
        problems.append(f"pycolmap {pycolmap} is too old; install 3.13 or later.")
    if "hloc" in versions and needs_configurations(pycolmap):
        problems.append(
            f"hloc's triangulation ends with 0 points on pycolmap {pycolmap} in scripts without "
            "featplug.register(), because this pycolmap skips two-view geometries without a "
            "configuration; call featplug.register() in them, or run them by `featplug hloc`."
        )
    if "torch" in versions and release(versions["torch"]) < (2, 10):
        problems.append(
            f"torch {versions['torch']} can be made to run code by a crafted checkpoint in spite "
            "of weights_only=True (CVE-2025-32434 before 2.6, CVE-2026-24747 before 2.10); "
            "install 2.10 or later, or import only checkpoints that you trust."
        )
    opencv = [name for name in OPENCV if name in versions]
    if len(opencv) > 1:
        problems.append(
            f"{' and '.join(opencv)} overwrite each other's files; uninstall all of them and "
            "install opencv-python-headless alone."
        )
    locking = environment.get("HDF5_USE_FILE_LOCKING", "")
    if locking.upper() in ("FALSE", "0"):
        problems.append(
            f"HDF5_USE_FILE_LOCKING={locking} lets two runs write to one file and ruin it; "
            "unset it unless your network disk has no locks."
        )
    return problems


def needs_configurations(pycolmap: str) -> bool:
    """Return whether a version of pycolmap skips two-view geometries without a configuration."""
    return release(pycolmap) >= (4, 2)


def release(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version, such as 1.5rc1's 1 and 5, to be compared."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
