"""Hashes of downloads for which the registry has none: recorded at the first, compared later.

An entry's record is a JSON file next to its imported weights: the name of each authors' file, and
the address, size and SHA-256 of what was downloaded.
"""

import json
from pathlib import Path

from featplug.io.artifact import file_hash
from featplug.io.files import write_whole_text


class PinnedHashes:
    """The record of one registry entry in a folder of weights."""

    def __init__(self, folder: Path, entry: str) -> None:
        self.path = folder / f"{entry}.downloads.json"

    def check(self, file: Path, url: str) -> bool:
        """Return whether a download has the recorded hash; False if there is none of the file.

        Raises:
            ValueError: it has another hash, or the record is damaged.
        """
        recorded = self._read().get(file.name)
        if recorded is None:
            return False
        found = file_hash(file)
        if found != recorded["sha256"]:
            raise ValueError(
                f"{url} now has sha256 {found[:12]}… and not the {recorded['sha256'][:12]}… of the "
                f"first download; if its authors have replaced it, delete {self.path} and fetch it "
                "again."
            )
        return True

    def record(self, file: Path, url: str) -> str:
        """Record the hash of a download, and return it."""
        sha256 = file_hash(file)
        new = {file.name: {"url": url, "size": file.stat().st_size, "sha256": sha256}}
        write_whole_text(self.path, json.dumps({**self._read(), **new}, indent=2) + "\n")
        return sha256

    def _read(self) -> dict[str, dict[str, str]]:
        if not self.path.is_file():
            return {}
        try:
            records = json.loads(self.path.read_text("utf-8"))
            if not all(isinstance(record["sha256"], str) for record in records.values()):
                raise TypeError
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.path} is not a record of downloads; delete it and fetch the weights again."
            ) from error
        return records
