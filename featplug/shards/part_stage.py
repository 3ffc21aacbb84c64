"""What a stage that makes parts is: its parts, what each is made from, and how it is made."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from featplug.io.artifact import Provenance
from featplug.io.hdf5_guard import UnusableDataError
from featplug.io.parts.part_files import Key, part_file, part_identity, read_part_record

Skipped = Mapping[str, str]


@dataclass(frozen=True)
class PartReport:
    """What the making of a part did."""

    num_items: int
    """Images or pairs that are in the part."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Images and pairs that are not, and why."""
    seconds: float = 0.0

    def to_json(self) -> str:
        """Return the text that a part keeps."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: it is something else.
        """
        try:
            found = json.loads(text)
            return cls(int(found["num_items"]), dict(found["skipped"]), float(found["seconds"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError("not the report of a part") from error


@dataclass(frozen=True)
class PartStage(ABC):
    """A stage that makes a folder of parts, each on its own.

    It can be pickled, so that other processes and machines make parts of it; what it has loaded,
    such as a network, does not go with it.
    """

    name: ClassVar[str]
    """Name of the stage, such as extract."""
    suffix: ClassVar[str] = ".h5"
    """Suffix of the parts' files."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Folder of the parts."""

    @abstractmethod
    def keys(self) -> list[Key]:
        """List the keys of all parts."""

    @property
    @abstractmethod
    def made_by(self) -> Provenance:
        """Options, weights and code that make all parts, without the inputs of any."""

    @abstractmethod
    def inputs(self, key: Key) -> dict[str, str | None]:
        """Return the identity of each input of a part.

        Raises:
            FileNotFoundError: an input does not exist.
            ValueError: an input is damaged.
        """

    @abstractmethod
    def write(self, key: Key, path: Path, provenance: Provenance, progress: bool) -> PartReport:
        """Write a part to the file ``path``, which appears when it is whole.

        Raises:
            ValueError: nothing of the part could be made.
        """

    @abstractmethod
    def on_device(self, device: str | None) -> Self:
        """Return the same stage on another device; itself where it has none."""

    def path(self, key: Key) -> Path:
        """Return the file of a part."""
        return part_file(self.folder, key, self.suffix)

    def provenance(self, key: Key) -> Provenance:
        """Return what a part is made from."""
        made_by = replace(self.made_by, inputs=self.inputs(key))
        return replace(made_by, file_id=part_identity(made_by))

    def reason_to_make(self, key: Key) -> str | None:
        """Return why a part has to be made, as a sentence, or None if it is there."""
        path = self.path(key)
        if not path.exists():
            return f"There is no {path} yet."
        try:
            found, _ = read_part_record(path)
        except (UnusableDataError, ValueError) as error:
            return str(error)
        try:
            difference = found.difference(self.provenance(key))
        except (FileNotFoundError, ValueError) as error:  # to make it says so, and the others go on
            return str(error)
        return None if difference is None else f"{path} {difference}."

    def report(self, key: Key) -> PartReport:
        """Return the report that a part keeps.

        Raises:
            ValueError: the part is damaged.
        """
        return PartReport.from_json(read_part_record(self.path(key))[1])

    def make(self, key: Key, progress: bool = False) -> PartReport:
        """Make a part.

        Raises:
            FileNotFoundError: an input does not exist.
            ValueError: an input is damaged, or nothing of the part could be made.
        """
        return self.write(key, self.path(key), self.provenance(key), progress)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: the options, without what was loaded."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    def description(self) -> dict[str, Any]:
        """Return what the folder's record says of the stage, JSON values."""
        return {
            "stage": self.name,
            "suffix": self.suffix,
            "made_by": asdict(replace(self.made_by, file_id=part_identity(self.made_by))),
            "keys": self.keys(),
        }
