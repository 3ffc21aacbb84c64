"""One file that hloc reads, of a folder of parts: a copy, or links to the parts."""

import os
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from featplug.io.artifact import Provenance, value_hash
from featplug.io.files import write_whole
from featplug.io.h5file import H5Reader, count_groups, write_provenance
from featplug.io.hdf5_guard import guarded
from featplug.io.match_store import MatchWriter
from featplug.io.parts.match_parts import MatchParts
from featplug.io.parts.part_files import part_keys, read_part_record
from featplug.utils.progress import progress_bar

_MATCHES = "matches"
_OF_IMAGES = "features", "global descriptors"


def consolidate(folder: Path, path: Path, links: bool = False, progress: bool = False) -> int:
    """Write one file in hloc's layout of a folder of parts; an existing file is replaced.

    Args:
        folder: parts of features, global descriptors or matches.
        path: the file.
        links: link to the images of the parts instead of copying them: at once, and without space,
            but hloc's ``list_h5_names`` does not follow links, and the parts must stay.
        progress: show a progress bar.

    Returns:
        The number of images or pairs.

    Raises:
        FileNotFoundError: the folder has no parts.
        ValueError: the parts are of another kind, one is damaged, or the disk is full.
    """
    paths = list(part_keys(folder, ".h5").values())
    if not paths:
        raise FileNotFoundError(f"{folder} has no part-*.h5; make them first.")
    made_by = read_part_record(paths[0])[0]
    if made_by.kind == _MATCHES:
        if links:
            raise ValueError(f"{folder} has packed matches, which no link leads into; copy them.")
        return _copy_matches(folder, path, made_by, progress)
    if made_by.kind not in _OF_IMAGES:
        raise ValueError(f"{folder} has parts of {made_by.kind}; give features or matches.")
    number = 0

    def write(part: Path) -> None:
        nonlocal number
        with h5py.File(part, "w") as file:
            write_provenance(file, _of_all(made_by, paths))
            bar = progress_bar(paths, "consolidate", len(paths), "part", progress)
            for source in bar:
                number += _add(file, source, path.parent if links else None)
            count_groups(file, 0 if links else number)

    write_whole(path, write)
    return number


def _add(file: h5py.File, source: Path, links_from: Path | None) -> int:
    """Copy the groups of a part, or link to them by a path from a folder; return their number."""
    with H5Reader(source, locking=False) as reader:
        groups = reader.leaf_groups()
        for name, _ in groups:
            with guarded(source, repr(name)):
                if links_from is None:
                    reader.file.copy(name, file, name)
                else:
                    relative = os.path.relpath(source, links_from)
                    file[name] = h5py.ExternalLink(relative, f"/{name}")
    return len(groups)


def _copy_matches(folder: Path, path: Path, made_by: Provenance, progress: bool) -> int:
    number = 0
    paths = list(part_keys(folder, ".h5").values())
    with MatchParts(folder) as parts, MatchWriter(path, _of_all(made_by, paths), True) as writer:
        for _, part in progress_bar(parts.parts(), "consolidate", len(paths), "part", progress):
            for pair in part.read_all():
                matches0 = np.full(pair.num_keypoints[0], -1, np.int64)
                scores0 = np.zeros(pair.num_keypoints[0], np.float32)
                matches0[pair.indices[:, 0]] = pair.indices[:, 1]
                scores0[pair.indices[:, 0]] = pair.scores
                name0, name1 = pair.names
                writer.write(name0, name1, matches0, scores0, pair.num_keypoints[1])
                number += 1
    return number


def _of_all(made_by: Provenance, paths: list[Path]) -> Provenance:
    """Return what makes the whole, whose identity is that of its parts."""
    identities = [read_part_record(path)[0].file_id for path in paths]
    return replace(made_by, inputs={}, file_id=value_hash(identities))
