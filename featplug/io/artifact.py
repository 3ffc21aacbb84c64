"""Whether a file or folder was made from the same inputs, and can be used again.

A :class:`Provenance` holds everything that decides over the contents of what a stage writes: its
options, the hashes of the weights, the identity of the inputs and the revision of each method and
stage, a number that is raised when its output changes. The version of the package is only
recorded, so that an upgrade alone invalidates nothing. HDF5 files keep their provenance in a root
attribute (:mod:`featplug.io.h5file`), other files and folders in a JSON record next to them, which
an :class:`Artifact` reads and writes::

    provenance = Provenance(
        "resized images",
        conf={"size": [640, 480]},
        inputs={"images": files_hash(folder, names)},
        revisions={"resize": RESIZE_REVISION},
    )
    resized = Artifact(outputs / "resized", provenance)
    if resized.reason_to_make():  # "… was made with size = [320, 240], this run has [640, 480]"
        resized.make(write_images)  # called with the path of a folder to make next to the real one
"""

import hashlib
import json
import os
import re
import stat
import time
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from featplug import __version__
from featplug.io.files import write_whole, write_whole_text
from featplug.utils.parallel import NUM_READERS, map_ahead
from featplug.utils.versions import source_commit

_RACY_SECONDS = 2.0
"""A file that changed within this time may change again without a change of its times."""
_SHOWN_DIFFERENCES = 3

_OLD_FINGERPRINT = re.compile(r"\d+-[0-9a-f]{8}")

_hashes: dict[str, tuple[str, str]] = {}
"""Path to the stamp and the hash of each file that this process has hashed."""


@dataclass(frozen=True)
class Provenance:
    """Everything that a file or folder was made from."""

    kind: str
    """Kind of contents: ``features``, ``matches``, ``model``, …"""
    conf: dict[str, Any]
    """Options that change the contents, JSON values."""
    weights: list[dict[str, str]] = field(default_factory=list)
    """Name, origin and sha256 of each weights file."""
    inputs: dict[str, str | None] = field(default_factory=dict)
    """Name of each input to its identity: the hash of a file, or the ``file_id`` of a file of ours
    that may grow."""
    revisions: dict[str, int] = field(default_factory=dict)
    """Revision of each method and stage that took part; one that is not listed has revision 1."""
    methods: list[dict[str, str]] = field(default_factory=list)
    """Class of each method, its package and version, and the sha256 of the source where it is not
    installed; see :mod:`featplug.methods.method_sources`."""
    version: str = __version__
    """Version of featplug, recorded only."""
    commit: str | None = field(default_factory=source_commit)
    """Commit of featplug where it is run from a checkout, recorded only."""
    file_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Identity of this very file, which later stages record as their input."""

    def difference(self, other: "Provenance", owner: str = "this run") -> str | None:
        """Return how contents of ``other``, the provenance of ``owner``, would differ, or None.

        The text is the rest of a sentence that begins with the name of the file.
        """
        if self.kind != other.kind:
            return f"holds {self.kind}, not {other.kind}"
        for name in sorted(self.inputs.keys() | other.inputs.keys()):
            if self.inputs.get(name) != other.inputs.get(name):
                return f"was made from other {name.replace('_', ' ')}"
        # Through JSON, since one of the two was read from it.
        mine, theirs = (_flatten(json.loads(json.dumps(p.conf))) for p in (self, other))
        changed = [
            f"{key.removeprefix('model.')} = {mine.get(key)}, {owner} has {theirs.get(key)}"
            for key in sorted(mine.keys() | theirs.keys())
            if mine.get(key) != theirs.get(key)
        ]
        if changed:
            return f"was made with {'; '.join(changed[:_SHOWN_DIFFERENCES])}"
        for name in sorted(self.revisions.keys() | other.revisions.keys()):
            revision, current = self.revisions.get(name, 1), other.revisions.get(name, 1)
            if revision != current:
                return f"was made by revision {revision} of {name}, {owner} has {current}"
        sources = [{m["class"]: _code(m) for m in p.methods} for p in (self, other)]
        for name in sources[0].keys() & sources[1].keys():
            if sources[0][name] != sources[1][name]:
                return f"was made by another version of {name}, whose source has changed"
        if [w["sha256"] for w in self.weights] != [w["sha256"] for w in other.weights]:
            return f"was made with the weights {_shown(self)}, {owner} has {_shown(other)}"
        return None

    def to_json(self) -> str:
        """Return the text that files keep."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote, here or in featplug 0.1, which knew no revisions.

        Raises:
            ValueError: the text is something else.
        """
        known = {entry.name for entry in fields(cls)}
        try:
            found = json.loads(text)
            made = cls(**{"commit": None} | {k: v for k, v in found.items() if k in known})
            made.check()
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise ValueError("not a provenance of featplug") from error
        return made

    def check(self) -> None:
        """Check the types of what was read.

        Raises:
            TypeError: a value is of another type.
        """
        texts = [self.kind, self.version, self.file_id, *(w["sha256"] for w in self.weights)]
        texts += [m["class"] for m in self.methods]
        mappings = [self.conf, self.inputs, self.revisions, *self.methods]
        if not all(isinstance(t, str) for t in texts) or not all(
            isinstance(m, dict) for m in mappings
        ):
            raise TypeError("a value is of another type")


def _code(method: Mapping[str, str]) -> tuple[str | None, ...]:
    """Return what identifies the code of a method; that of featplug has revisions instead."""
    is_own = method.get("package") == "featplug"
    return method.get("sha256"), None if is_own else method.get("version")


class Artifact:
    """A file or folder with a record of its provenance.

    Args:
        path: the file or folder.
        provenance: provenance that this run needs.
        record: the JSON file of the record; ``NAME.made_from.json`` next to ``path`` if None.
    """

    def __init__(self, path: Path, provenance: Provenance, record: Path | None = None) -> None:
        self.path = Path(path)
        self.provenance = provenance
        self.record = record or self.path.with_name(f"{self.path.name}.made_from.json")
        self.facts: dict[str, Any] = {}
        """Facts from :meth:`make`, of this run or, after :meth:`reason_to_make`, an earlier one."""

    def reason_to_make(self) -> str | None:
        """Return why the artifact has to be made, as a sentence, or None if it can be reused."""
        if not self.path.exists():
            return f"There is no {self.path} yet."
        try:
            record = json.loads(self.record.read_text("utf-8"))
            found = Provenance.from_json(json.dumps(record["provenance"]))
            sizes, facts = record["sizes"], record["facts"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return f"{self.path} has no record of what it was made from."
        difference = found.difference(self.provenance)
        if difference is not None:
            return f"{self.path} {difference}."
        if not sizes.items() <= _sizes(self.path).items():
            return f"{self.path} was changed after it was written."
        self.provenance, self.facts = found, facts
        return None

    def make(
        self,
        write: Callable[[Path], Mapping[str, Any] | None],
        check: Callable[[Path], object] | None = None,
    ) -> dict[str, Any]:
        """Make the artifact; it appears only when it is whole, and its record last.

        An outdated one keeps its place until then, also when this fails.

        Args:
            write: writes the file or folder to the path that it is called with, and may return
                facts (JSON values) to keep in the record.
            check: reads what was written and raises an exception if it is not good.

        Returns:
            The facts.
        """
        facts: dict[str, Any] = {}

        def write_with_facts(part: Path) -> None:
            facts.update(write(part) or {})

        def check_and_invalidate(part: Path) -> None:
            if check is not None:
                check(part)
            # A kill before the new record is there must not leave the old one next to new contents.
            self.record.unlink(missing_ok=True)

        write_whole(self.path, write_with_facts, check_and_invalidate)
        self.write_record(self.path, facts, self.record)
        self.facts = facts
        return facts

    def write_record(self, contents: Path, facts: Mapping[str, Any], record: Path) -> None:
        """Write the record of contents that are made aside, to replace the artifact together."""
        content = {
            "provenance": asdict(self.provenance),
            "sizes": _sizes(contents),
            "facts": facts,
        }
        write_whole_text(record, json.dumps(content, indent=2) + "\n")


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a whole file; a file is read again only after it changed."""
    return file_fingerprint(path).partition(" ")[0]


def file_fingerprint(path: Path) -> str:
    """Return the SHA-256 of a whole file, followed by size, times and inode.

    With these, :func:`current_fingerprint` need not read the file again. They are left out for a
    file that changed moments ago, as it could change again without a change of its times.
    """
    path = Path(path).absolute()
    stamp = _stamp(path)
    known = _hashes.get(str(path))
    if known is not None and stamp and known[0] == stamp:
        return f"{known[1]} {stamp}"
    with path.open("rb") as file:
        return _remember(path, stamp, hashlib.file_digest(file, "sha256").hexdigest())


def read_fingerprinted(path: Path) -> tuple[bytes, str]:
    """Read a file and return its contents and their :func:`file_fingerprint`."""
    path = Path(path).absolute()
    stamp = _stamp(path)
    content = path.read_bytes()
    return content, _remember(path, stamp, hashlib.sha256(content).hexdigest())


def current_fingerprint(path: Path, recorded: str, recorded_ns: int) -> str | None:
    """Return the fingerprint of a file if its contents are those that were recorded, else None.

    Args:
        path: the file.
        recorded: an earlier result of :func:`file_fingerprint`, or the size and the checksum of 4
            KiB that featplug 0.1 recorded. With these the file must also not have changed since.
        recorded_ns: time of the record, in ns.
    """
    path = Path(path).absolute()
    digest, _, stamp = recorded.partition(" ")
    if is_old_fingerprint(recorded):
        is_same = digest == _old_fingerprint(path) and _changed_ns(path) < recorded_ns
        return file_fingerprint(path) if is_same else None
    if stamp and stamp == _stamp(path):
        return _remember(path, stamp, digest)
    current = file_fingerprint(path)
    return current if current.partition(" ")[0] == digest else None


def is_old_fingerprint(recorded: str) -> bool:
    """Return whether a fingerprint is featplug 0.1's: the size, and a checksum of 4 KiB."""
    return _OLD_FINGERPRINT.fullmatch(recorded) is not None


def _remember(path: Path, stamp: str, digest: str) -> str:
    if not stamp:
        return digest
    _hashes[str(path)] = (stamp, digest)
    return f"{digest} {stamp}"


def _stamp(path: Path) -> str:
    if time.time_ns() - _changed_ns(path) < _RACY_SECONDS * 1e9:
        return ""
    s = _status(path)
    return f"{s.st_size} {s.st_mtime_ns} {s.st_ctime_ns} {s.st_ino}"


def _changed_ns(path: Path) -> int:
    status = _status(path)
    return max(status.st_mtime_ns, status.st_ctime_ns)


def _status(path: Path) -> os.stat_result:
    """Return the status of a file; anything else is rejected, since a pipe would wait for ever."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is not a file; remove it, or put the file in its place.")
    return status


def _old_fingerprint(path: Path) -> str:
    """Return the size and the checksum of the middle 4 KiB."""
    size = _status(path).st_size
    with path.open("rb") as file:
        file.seek(max(0, size // 2 - 2048))
        return f"{size}-{zlib.crc32(file.read(4096)):08x}"


def files_hash(folder: Path, names: Sequence[str]) -> str:
    """Return one hash of the names and the whole contents of files in a folder, in any order."""
    names = sorted(names)
    digest = hashlib.sha256()
    hashes = map_ahead(lambda name: file_hash(Path(folder) / name), names, NUM_READERS)
    for name, file_digest in zip(names, hashes, strict=True):
        digest.update(f"{name} {file_digest}\n".encode())
    return digest.hexdigest()


def value_hash(value: object) -> str:
    """Return a hash of a JSON value, for an input that is no file."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _shown(provenance: Provenance) -> str:
    weights = provenance.weights
    return ", ".join(f"{w.get('name', '')} {w['sha256'][:8]}" for w in weights) or "none"


def _sizes(path: Path) -> dict[str, int]:
    if path.is_file():
        return {path.name: path.stat().st_size}
    found = (Path(folder) / name for folder, _, names in os.walk(path) for name in names)
    return {file.relative_to(path).as_posix(): file.stat().st_size for file in found}
