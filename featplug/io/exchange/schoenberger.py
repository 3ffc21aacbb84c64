"""The ``.bin`` files of the local feature evaluation benchmark (Schönberger et al., CVPR 2017).

A dataset's folder holds ``images/``, ``keypoints/NAME.bin`` (x, y, scale, orientation),
``descriptors/NAME.bin`` and ``matches/NAME0---NAME1.bin`` (the benchmark's INSTRUCTIONS.md). Each
file is two int32, rows and columns, and then the matrix by rows: float32, or for matches uint32
indices from 0.

The centre of the first pixel is (0, 0), as here: the benchmark's script that exports COLMAP's
keypoints takes 0.5 off. (Its import into COLMAP does not add it again, so there the principal point
absorbs half a pixel.) Scale and orientation are COLMAP's, in pixels and radians, and 0 where the
features have none.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from featplug.io.exchange import transfer as exchange
from featplug.io.exchange.file_sets import FileSet, replaced_together, writable_names
from featplug.io.image_folder import list_images
from featplug.io.pair_lists import Pair
from featplug.io.parts.feature_parts import open_features
from featplug.keypoints.detection import from_sift_frames, sift_frames

_SEPARATOR = "---"
_HEADER = np.dtype("<i4")
_FLOAT = np.dtype("<f4")
_INDEX = np.dtype("<u4")


def write_matrix(path: Path, matrix: np.ndarray) -> None:
    """Write a matrix N×D as a file of the benchmark: integers as uint32, others as float32."""
    dtype = _INDEX if np.issubdtype(matrix.dtype, np.integer) else _FLOAT
    content = np.array(matrix.shape, _HEADER).tobytes() + matrix.astype(dtype).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def read_matrix(path: Path, dtype: np.dtype) -> np.ndarray:
    """Read a file of the benchmark, a matrix N×D of little-endian float32 or uint32.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is longer or shorter than its header says, or larger than any matrix here.
    """
    content = exchange.read_array_bytes(path)
    start = 2 * _HEADER.itemsize
    if len(content) < start:
        raise ValueError(f"{path} is cut off: it has {len(content)} bytes; copy it again.")
    rows, columns = (int(side) for side in np.frombuffer(content, _HEADER, 2))
    expected = start + rows * columns * dtype.itemsize
    if min(rows, columns) < 0 or len(content) != expected:
        raise ValueError(
            f"{path} has {len(content)} bytes, but {expected} for {rows}×{columns} values by its "
            "header: it is cut off, or no file of the benchmark; copy it again."
        )
    return np.frombuffer(content, dtype, offset=start).reshape(rows, columns)


def export_dataset(
    output: Path,
    features: Path,
    matches: Path | None = None,
    selection: exchange.Selection = exchange.ALL,
    descriptors: bool = True,
    overwrite: bool = False,
) -> exchange.Transfer:
    """Write the .bin files of the local feature evaluation benchmark (Schönberger et al. 2017).

    Args:
        output: folder of the data set; gets keypoints, descriptors and matches.
        features: feature file, ours or hloc's.
        matches: match file, ours or hloc's; no matches by default.
        selection: which images and pairs.
        descriptors: write descriptors, too.
        overwrite: replace all .bin files in the folder.

    Raises:
        FileExistsError: the folder has such files.
        ValueError: the matches are of other features, an image has no descriptors, or the
            benchmark's match files cannot carry a name.
    """
    folder = Path(output)
    transfer = exchange.Transfer(folder)
    with open_features(features) as reader:
        names = selection.names(reader, transfer)
        sets = {
            kind: FileSet(folder, kind, ".bin", overwrite)
            for kind in ("keypoints", "descriptors", "matches")
        }
        names = writable_names(names, [sets["keypoints"], sets["descriptors"]], transfer.skipped)
        if matches is not None:
            _check_match_names(names)

        def write(pair: Pair, indices: np.ndarray, _: np.ndarray) -> None:
            sets["matches"].write(_SEPARATOR.join(pair), partial(write_matrix, matrix=indices))

        with replaced_together([*sets.values()]):
            for name in names:
                datasets = reader.read(name, ("keypoints", "scales", "oris", "descriptors"))
                frames = sift_frames(datasets)
                frames = np.pad(frames, ((0, 0), (0, 4 - frames.shape[1])))
                sets["keypoints"].write(name, partial(write_matrix, matrix=frames))
                if descriptors:
                    rows = exchange.descriptor_rows(datasets, reader.path, name)
                    sets["descriptors"].write(name, partial(write_matrix, matrix=rows))
                transfer.counts[name] = len(frames)
            exchange.export_matches(matches, reader, selection, transfer, write)
    return transfer


def import_dataset(dataset: Path, files: exchange.ImportFiles) -> exchange.Transfer:
    """Read the .bin files of the local feature evaluation benchmark into files that hloc reads.

    Args:
        dataset: folder of the data set, with keypoints and the images, whose sizes are read.
        files: files to write.

    Raises:
        FileExistsError: one of the files exists.
        FileNotFoundError: no images exist, or no keypoints at all.
        ValueError: a file is cut off, or matches keypoints or images that do not exist.
    """
    folder = Path(dataset)
    transfer = exchange.Transfer(Path(files.features))
    names = list_images(folder / "images")
    present = exchange.images_with_files(
        names, lambda name: folder / "keypoints" / f"{name}.bin", transfer
    )
    return exchange.import_found(
        "schoenberger",
        files,
        transfer,
        exchange.usable_names(present, transfer, folder / "images"),
        partial(_read_image, folder, transfer),
        _read_matches(folder / "matches"),
    )


def _read_image(folder: Path, transfer: exchange.Transfer, name: str) -> exchange.FoundImage | None:
    path = folder / "keypoints" / f"{name}.bin"
    frames = read_matrix(path, _FLOAT)
    if frames.shape[1] != 4:
        raise ValueError(f"{path} has {frames.shape[1]} columns; keypoints have 4: make it again.")
    found = from_sift_frames(frames)
    described = folder / "descriptors" / f"{name}.bin"
    if described.is_file():
        found["descriptors"] = read_matrix(described, _FLOAT).T
    return exchange.found_image(path, found, folder / "images", name, transfer)


def _check_match_names(names: Sequence[str]) -> None:
    for name in names:
        if "/" in name or _SEPARATOR in name:
            raise ValueError(
                f"The benchmark's match files cannot carry the image name {name!r}: they lie in "
                f"one folder and have {_SEPARATOR!r} between two names; leave the matches out, or "
                "rename it."
            )


def _read_matches(folder: Path) -> Iterator[exchange.FoundMatches]:
    """Yield each pair with its matches and their file; the format has no scores."""
    for path in sorted(filter(Path.is_file, folder.glob(f"*{_SEPARATOR}*.bin"))):
        name0, _, name1 = path.name.removesuffix(".bin").partition(_SEPARATOR)
        indices = read_matrix(path, _INDEX).astype(np.int64)
        if len(indices) and indices.shape[1] != 2:
            raise ValueError(f"{path} has {indices.shape[1]} columns, not 2; make it again.")
        yield (name0, name1), indices, None, path
