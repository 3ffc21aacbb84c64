"""Files of a folder of parts: their names, and how one is written whole.

A part of images is ``part-00007.h5``, one of pairs ``part-00003-00007.h5``, by the numbers of the
shards, or blocks of shards, that it is made from.
"""

import re
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import h5py

from featplug.io.artifact import Provenance, value_hash
from featplug.io.files import discard, flush, part_path, replace, write_whole
from featplug.io.h5file import H5File, H5Writer, read_provenance, write_provenance
from featplug.io.hdf5_arrays import read_attribute, stored_attribute
from featplug.io.hdf5_guard import damaged, guarded, opening
from featplug.utils.extras import require

Key = tuple[int, ...]
"""Numbers of the shards that a part is made from: one, or two for pairs."""

_PROVENANCE, _REPORT = "featplug", "featplug_report"
_NAME = re.compile(r"part((?:-\d{5,})+)(\.[a-z0-9]+)")


def part_file(folder: Path, key: Key, suffix: str) -> Path:
    """Return the path of a part."""
    return folder / f"part{''.join(f'-{number:05d}' for number in key)}{suffix}"


def part_keys(folder: Path, suffix: str) -> dict[Key, Path]:
    """Return the parts of a folder, sorted by their keys; other files are passed over."""
    found = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match and match[2] == suffix:
            found[tuple(int(number) for number in match[1][1:].split("-"))] = path
    return dict(sorted(found.items()))


def shards_of_blocks(key: Key, size: int, num_shards: int) -> list[int]:
    """Return the shards of a part's blocks, each once.

    Args:
        key: numbers of the blocks.
        size: number of shards of a block; the last one may have fewer.
        num_shards: number of all shards.
    """
    shards = (range(block * size, min((block + 1) * size, num_shards)) for block in key)
    return list(dict.fromkeys(chain.from_iterable(shards)))


def is_folder_of_parts(path: Path) -> bool:
    """Return whether a path is a folder with parts."""
    return path.is_dir() and any(_NAME.fullmatch(entry.name) for entry in path.iterdir())


def part_identity(provenance: Provenance) -> str:
    """Return the identity of a part, the same whenever and wherever it is made.

    What later stages made from a part stays valid when it is lost and made again.
    """
    return value_hash(
        {
            "kind": provenance.kind,
            "conf": provenance.conf,
            "weights": [record["sha256"] for record in provenance.weights],
            "inputs": provenance.inputs,
            "revisions": provenance.revisions,
            "methods": provenance.methods,
        }
    )


def read_part_record(path: Path) -> tuple[Provenance, str]:
    """Read what made a part, and the report of its making (JSON), empty where it has none.

    Raises:
        UnusableDataError: the part is damaged, or is none.
    """
    if path.suffix == ".parquet":
        provenance, report = _parquet_record(path)
    else:
        with opening(path), h5py.File(path, "r", locking=False) as file:
            provenance = read_provenance(path, file)
            with guarded(path):
                report = read_attribute(file, _REPORT)
    if provenance is None:
        raise damaged(path, "", "it has no record of what made it")
    return provenance, str(report or "")


def _parquet_record(path: Path) -> tuple[Provenance | None, str | None]:
    parquet = require("pyarrow.parquet", "shards")
    with guarded(path):
        found = parquet.read_metadata(path).metadata or {}
        text, report = found.get(_PROVENANCE.encode()), found.get(_REPORT.encode())
        provenance = None if text is None else Provenance.from_json(text.decode())
        return provenance, None if report is None else report.decode()


def check_parquet_part(path: Path) -> None:
    """Read a part that is a table, and compare it with its checksums.

    Raises:
        UnusableDataError: the part is damaged.
    """
    parquet = require("pyarrow.parquet", "shards")
    with guarded(path), parquet.ParquetFile(path, page_checksum_verification=True) as file:
        for group in range(file.num_row_groups):
            file.read_row_group(group)


def parquet_head(provenance: Provenance, report: str) -> dict[str, str]:
    """Return the metadata of a Parquet part: what made it, and the report of its making (JSON)."""
    return {_PROVENANCE: provenance.to_json(), _REPORT: report}


def write_parquet_part(
    path: Path,
    table: Any,
    provenance: Provenance,
    report: str,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write a part that is a table of Arrow's, with further texts in its metadata if need be.

    Raises:
        ValueError: the disk is full.
    """
    parquet = require("pyarrow.parquet", "shards")
    table = table.replace_schema_metadata({**parquet_head(provenance, report), **(extra or {})})
    write_whole(path, lambda part: parquet.write_table(table, part, write_page_checksum=True))


class H5PartWriter(H5Writer):
    """A file that is written once: aside, without a journal, and renamed when it is whole.

    Nothing is left of it if the ``with`` block ends with an exception. Two writers of one part do
    not disturb each other; the last one's stays.
    """

    def __init__(self, path: Path, provenance: Provenance) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.written = part_path(path)
        self._locked = []
        file = h5py.File(self.written, "w", locking=False)
        try:
            write_provenance(file, provenance)
            H5File.__init__(self, path, file, 0)
        except BaseException:
            file.close()
            discard(self.written)
            raise
        self._num_groups = 0
        self.provenance = provenance

    def write_report(self, report: str) -> None:
        """Keep the report of the part's making (JSON)."""
        with self.explaining_failures():
            self.file.attrs[_REPORT] = stored_attribute(report)

    def commit(self) -> None:
        """Do nothing: a part appears at once when it is whole."""

    def __exit__(self, *exception: object) -> None:
        try:
            if exception[0] is None:
                super().commit()
            self._close()
            if exception[0] is None:
                with self.explaining_failures():
                    flush(self.written)
                    replace(self.written, self.path)
        finally:
            self.file.close()
            discard(self.written)
