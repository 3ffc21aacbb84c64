"""What is done of the stages of a store, what is missing or damaged, and the time that is left."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featplug.io.artifact import Provenance
from featplug.io.h5file import H5Reader
from featplug.io.hdf5_guard import UnusableDataError
from featplug.io.parts.part_files import Key, check_parquet_part, part_file, read_part_record
from featplug.shards.part_stage import PartReport
from featplug.shards.stage_record import RECORD, StageRecord, read_record


@dataclass(frozen=True)
class StageStatus:
    """What is done of a stage."""

    folder: Path
    stage: str
    """Name of the stage, such as extract."""
    num_parts: int
    """Parts that the stage has when it is whole."""
    missing: list[Key]
    damaged: dict[Path, str]
    """Parts that cannot be used, or were made with other options, and why."""
    num_items: int
    """Images or pairs in the parts that are whole."""
    skipped: dict[str, str]
    """Images and pairs that could not be used, and why."""
    seconds_left: float | None
    """Time until it is whole at the rate of the parts so far; None where that is not known."""

    @property
    def num_done(self) -> int:
        """Number of parts that are whole."""
        return self.num_parts - len(self.missing) - len(self.damaged)


def store_status(store: Path, check: bool = False) -> list[StageStatus]:
    """Return the status of each stage of a store, in the order of their first parts.

    Args:
        store: folder of the store.
        check: read every array and compare it with its checksum.

    Raises:
        FileNotFoundError: there is no such folder, or no stage has begun in it.
        ValueError: the record of a stage is damaged.
    """
    folders = sorted(path.parent for path in Path(store).glob(f"*/{RECORD}"))
    if not folders:
        raise FileNotFoundError(
            f"No stage has begun in {store}; make a store by `featplug shard make`, and parts by "
            "--shard or --executor ray."
        )
    found = [_status(folder, check) for folder in folders]
    return sorted(found, key=lambda status: (status.folder / RECORD).stat().st_mtime)


def _status(folder: Path, check: bool) -> StageStatus:
    record = read_record(folder)
    if record is None:
        raise FileNotFoundError(f"{folder} has no {RECORD}; run the stage again.")
    made_by = record.provenance(folder / RECORD)
    missing: list[Key] = []
    damaged: dict[Path, str] = {}
    skipped: dict[str, str] = {}
    times, num_items = [], 0
    for key in record.part_keys():
        path = part_file(folder, key, record.suffix)
        try:
            written = path.stat().st_mtime
        except FileNotFoundError:
            missing.append(key)
            continue
        try:
            report = _checked(path, made_by, check)
        except ValueError as error:
            damaged[path] = str(error)
            continue
        num_items += report.num_items
        skipped.update(report.skipped)
        times.append(written)
    left = len(missing) + len(damaged)
    return StageStatus(
        folder,
        record.stage,
        len(record.keys),
        missing,
        damaged,
        num_items,
        skipped,
        _seconds_left(times, left, record),
    )


def _checked(path: Path, made_by: Provenance, check: bool) -> PartReport:
    """Return the report of a part that can be used.

    Raises:
        ValueError: it cannot.
    """
    found, text = read_part_record(path)
    # The inputs of a part are known to its stage only.
    difference = found.difference(Provenance(**{**vars(made_by), "inputs": found.inputs}))
    if difference is not None:
        raise ValueError(f"{path} {difference}.")
    if check and path.suffix == ".parquet":
        check_parquet_part(path)
    if check and path.suffix == ".h5":
        with H5Reader(path, locking=False) as reader:
            for group, _ in reader.leaf_groups():
                reader.arrays(group)
    try:
        return PartReport.from_json(text)
    except ValueError as error:
        raise UnusableDataError(f"{path} is damaged ({error}); make it again.") from error


def _seconds_left(times: list[float], left: int, record: StageRecord) -> float | None:
    """Return the time that is left, at the rate of the last parts: clocks may differ a little."""
    if not left:
        return 0.0
    last = np.sort(times)[-max(20, len(record.keys) // 10) :]
    if len(last) < 2 or last[-1] <= last[0]:
        return None
    return float(left * (last[-1] - last[0]) / (len(last) - 1))
