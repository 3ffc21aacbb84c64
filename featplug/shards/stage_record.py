"""The record of a folder of parts: its stage, what makes its parts, and which ones belong to it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featplug.io.artifact import Provenance
from featplug.io.files import write_whole_text
from featplug.io.h5file import OtherContentsError
from featplug.io.parts.part_files import Key, part_file
from featplug.io.typed_json import as_type, read_json
from featplug.shards.part_stage import PartStage

RECORD = "stage.json"


@dataclass(frozen=True)
class StageRecord:
    """What a folder of parts is."""

    stage: str
    """Name of the stage."""
    suffix: str
    """Suffix of the parts' files."""
    made_by: dict[str, Any]
    """Options, weights and code that make all parts."""
    keys: list[list[int]]
    """Keys of all parts."""

    def part_keys(self) -> list[Key]:
        """Return the keys of all parts."""
        return [tuple(key) for key in self.keys]

    def provenance(self, path: Path) -> Provenance:
        """Return what makes all parts.

        Raises:
            ValueError: the record is damaged.
        """
        try:
            return Provenance.from_json(json.dumps(self.made_by))
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); run the stage again.") from error


def read_record(folder: Path) -> StageRecord | None:
    """Read the record of a folder of parts; None where it has none.

    Raises:
        ValueError: the record is damaged.
    """
    path = folder / RECORD
    return as_type(read_json(path), StageRecord, path) if path.exists() else None


def check_whole(folder: Path) -> None:
    """Check that a folder has all parts of its stage; files, and folders without a record, pass.

    Raises:
        ValueError: parts are missing, or the record is damaged.
    """
    record = read_record(folder)
    if record is None:
        return
    paths = [part_file(folder, key, record.suffix) for key in record.part_keys()]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise ValueError(
            f"{folder} lacks {len(missing)} of its {len(paths)} parts, such as {missing[0]}; run "
            f"`featplug {record.stage}` again for these."
        )


def check_record(stage: PartStage, overwrite: bool = False) -> None:
    """Check that a folder has no parts of other options, weights or code.

    Raises:
        OtherContentsError: it has.
        ValueError: its record is damaged, or of another stage.
    """
    record = None if overwrite else read_record(stage.folder)
    if record is None:
        return
    path = stage.folder / RECORD
    difference = record.provenance(path).difference(stage.made_by)
    if difference is not None:
        raise OtherContentsError(f"{stage.folder} {difference}")


def write_record(stage: PartStage) -> None:
    """Write the record of a stage's folder, unless it is the same."""
    path = stage.folder / RECORD
    text = json.dumps(stage.description(), indent=1) + "\n"
    if not path.exists() or path.read_text("utf-8") != text:
        write_whole_text(path, text)
