"""Kapture folders (Humenberger et al., 2020), version 1.1 of the format.

``sensors/sensors.txt`` and ``sensors/records_camera.txt`` list cameras and images;
``reconstruction/keypoints/TYPE``, ``descriptors/TYPE`` and ``matches/TYPE`` hold one raw array a
file, whose columns the ``.txt`` next to them describes. The format:
https://github.com/naver/kapture/blob/main/kapture_format.adoc.

Its [0, 0] is the corner of the first pixel, and its converters copy keypoints from and to COLMAP
unchanged, so the centre of that pixel is (0.5, 0.5).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from featplug.colmap.database import from_colmap_keypoints, to_colmap_keypoints
from featplug.io.exchange.file_sets import FileSet, replaced_together, writable_names
from featplug.io.exchange.kapture_sensors import RECORDS, SENSORS, read_sizes, read_table
from featplug.io.exchange.transfer import (
    ALL,
    FoundImage,
    FoundMatches,
    ImportFiles,
    Selection,
    Transfer,
    descriptor_rows,
    export_matches,
    images_with_files,
    import_found,
    read_array_bytes,
    usable_names,
)
from featplug.io.files import write_whole_text
from featplug.io.images import read_image_size
from featplug.io.names import checked_name, path_below
from featplug.io.pair_lists import Pair
from featplug.io.parts.feature_parts import open_features
from featplug.io.store import FeatureReader
from featplug.io.text_files import whole_number

_VERSION = "# kapture format: 1.1"
_OVERLAPPING = ".overlapping/"
_MATCH = np.dtype("<f8")
_FLOAT = np.dtype("<f4")
_MAX_INDEX = 2**32
_KEYPOINT_WIDTHS = (2, 3, 4, 6)
"""Columns of keypoints as COLMAP has them; what others have after x and y is not known."""
_ARRAYS = "reconstruction"
_DTYPES = {
    name: np.dtype(name).newbyteorder("<") for name in ("float32", "float64", "int32", "uint8")
}
_MAX_COLUMNS = 2**20
_SUFFIXES = {"keypoints": ".kpt", "descriptors": ".desc", "matches": ".matches"}


@dataclass(frozen=True)
class KaptureOptions:
    """Contents of a kapture folder."""

    feature_type: str = "featplug"
    """kapture's name for these keypoints and descriptors."""
    image_dir: Path | None = None
    """Folder of the images, linked as sensors/records_data into a new kapture folder."""
    descriptors: bool = True
    """Write descriptors, too."""
    overwrite: bool = False
    """Replace the features of that name."""


def export_kapture(
    output: Path,
    features: Path,
    matches: Path | None = None,
    selection: Selection = ALL,
    options: KaptureOptions = KaptureOptions(),
) -> Transfer:
    """Write keypoints, descriptors and matches into a kapture folder, new or with images already.

    The cameras of a new folder are known by their size alone, as UNKNOWN_CAMERA.

    Args:
        output: the kapture folder, which holds sensors and reconstruction.
        features: feature file, ours or hloc's.
        matches: match file, ours or hloc's; no matches by default.
        selection: which images and pairs.
        options: contents of the folder.

    Raises:
        FileExistsError: the folder has features of that name.
        ValueError: the matches are of other features, an image has other columns or descriptors
            than the first or is not in the folder's list, or a name has a comma.
    """
    folder, feature_type = Path(output), options.feature_type
    transfer = Transfer(folder)
    _check_type(feature_type)
    with open_features(features) as reader:
        names = selection.names(reader, transfer)
        sets = {
            kind: FileSet(
                folder, f"reconstruction/{kind}/{feature_type}", suffix, options.overwrite
            )
            for kind, suffix in _SUFFIXES.items()
        }
        names = writable_names(names, [*sets.values()], transfer.skipped)
        _check_names(names)
        num_columns, num_values = _common_widths(reader, names, options.descriptors)
        with replaced_together([*sets.values()]):
            sensors = _sensors(folder, reader, names, options.image_dir)
            _describe(sets["keypoints"], num_columns)
            if options.descriptors:
                # By the format, the metric is for information only.
                _describe(sets["descriptors"], num_values, f", {feature_type}, L2")
            for name in names:
                datasets = reader.read(name, ("keypoints", "scales", "oris", "descriptors"))
                sets["keypoints"].write(name, _writer(to_colmap_keypoints(datasets), _FLOAT))
                if options.descriptors:
                    rows = descriptor_rows(datasets, reader.path, name)
                    sets["descriptors"].write(name, _writer(rows, _FLOAT))
                transfer.counts[name] = len(datasets["keypoints"])
            write = partial(_write_matches, sets["matches"])
            export_matches(matches, reader, selection, transfer, write)
            _write_sensors(folder, sensors, options.image_dir)
    return transfer


def import_kapture(
    kapture: Path, files: ImportFiles, *, feature_type: str | None = None
) -> Transfer:
    """Read a kapture folder into files that hloc reads.

    Args:
        kapture: the folder, which holds sensors and reconstruction.
        files: files to write.
        feature_type: kapture's name for the features, where the folder has several.

    Raises:
        FileExistsError: one of the files exists.
        FileNotFoundError: a file of kapture's is missing.
        ValueError: a file is cut off, or has unknown contents.
    """
    folder = Path(kapture)
    sizes = read_sizes(folder)
    keypoint_root = folder / _ARRAYS / "keypoints"
    feature_type = _choose_type(keypoint_root, feature_type)
    keypoints = _ArrayFolder.open(keypoint_root / feature_type)
    described = _described_by(folder / _ARRAYS / "descriptors", feature_type)
    transfer = Transfer(Path(files.features))
    names = usable_names(sorted(sizes), transfer, folder / RECORDS)
    names = {name: names[name] for name in images_with_files([*names], keypoints.path, transfer)}

    def read(name: str) -> FoundImage:
        rows = keypoints.read(name).astype(np.float32)
        if rows.shape[1] not in _KEYPOINT_WIDTHS:
            rows = rows[:, :2]
        found = from_colmap_keypoints(rows)
        if described is not None and described.path(name).is_file():
            found["descriptors"] = described.read(name).T.astype(np.float32)
        return FoundImage(keypoints.path(name), found, sizes[name])

    found_matches = _read_matches(folder / _ARRAYS / "matches" / feature_type)
    return import_found("kapture", files, transfer, names, read, found_matches)


@dataclass(frozen=True)
class _ArrayFolder:
    """Keypoints, descriptors or matches: a raw array for each image or pair, all of one width."""

    folder: Path
    dtype: np.dtype
    width: int
    keypoints_type: str | None = None
    """Type of the keypoints that descriptors are of."""

    @property
    def kind(self) -> str:
        """``keypoints``, ``descriptors`` or ``matches``."""
        return self.folder.parent.name

    @classmethod
    def open(cls, folder: Path) -> "_ArrayFolder":
        """Read the description of existing arrays."""
        kind = folder.parent.name
        if (archive := folder / f"{kind}.tar").is_file():
            raise ValueError(f"{archive} is an archive; unpack it there and try again.")
        path = folder / f"{kind}.txt"
        rows = [row for _, row in read_table(path)]
        if len(rows) != 1 or len(rows[0]) < 3 or rows[0][1] not in _DTYPES:
            raise ValueError(
                f"{path} must have one line: a name, one of {', '.join(_DTYPES)}, a number of "
                "columns."
            )
        _, dtype, width, *ending = rows[0]
        num = whole_number(width, str(path), "a number of columns", 1, _MAX_COLUMNS)
        if kind == "keypoints" and num < 2:
            raise ValueError(f"{path}: keypoints have 2 columns or more, not {num}; correct it.")
        return cls(folder, _DTYPES[dtype], num, ending[0] if ending else None)

    def path(self, name: str) -> Path:
        """Return the file of an image's or a pair's array."""
        return self.folder / f"{name}{_SUFFIXES[self.kind]}"

    def read(self, name: str) -> np.ndarray:
        """Read one array, N×width."""
        path, row = self.path(name), self.dtype.itemsize * self.width
        content = read_array_bytes(path)
        if len(content) % row:
            raise ValueError(
                f"{path} has {len(content)} bytes, no multiple of a row's {row}: it is cut off; "
                "copy it again."
            )
        return np.frombuffer(content, self.dtype).reshape(-1, self.width)


def _writer(rows: np.ndarray, dtype: np.dtype) -> Callable[[Path], int]:
    content = rows.astype(dtype).tobytes()
    return lambda path: path.write_bytes(content)


def _describe(files: FileSet, width: int, ending: str = "") -> None:
    """Write the description of float32 arrays."""
    kind = files.folder.parent.name
    columns = "name, dtype, dsize" + ", keypoints_type, metric_type" * bool(ending)
    line = f"{files.folder.name}, {_FLOAT.name}, {width}{ending}"
    files.write_description(f"{kind}.txt", _table(columns, [line]))


def _table(columns: str, lines: Sequence[str]) -> str:
    return "\n".join([_VERSION, f"# {columns}", *lines]) + "\n"


def _sensors(
    folder: Path, features: FeatureReader, names: Sequence[str], image_dir: Path | None
) -> dict[str, str]:
    """Return the tables of cameras and images to write: none if the folder lists the images."""
    if image_dir is not None and not Path(image_dir).is_dir():
        raise FileNotFoundError(f"There is no image folder {image_dir}.")
    if (folder / SENSORS).is_file():
        listed = read_sizes(folder)
        unlisted = [name for name in names if name not in listed]
        if unlisted:
            raise ValueError(
                f"{folder / RECORDS} lacks {len(unlisted)} of the {len(names)} images, the first "
                f"is {unlisted[0]!r}; export into another folder."
            )
        return {}
    cameras, records = [], []
    for i, name in enumerate(names):
        size = features.known_image_size(name)
        if size is None and image_dir is not None:
            size = read_image_size(Path(image_dir) / name)
        width, height = size or features.image_size(name)
        cameras.append(f"cam{i}, , camera, UNKNOWN_CAMERA, {width}, {height}")
        records.append(f"{i}, cam{i}, {name}")
    return {
        RECORDS: _table("timestamp, device_id, image_path", records),
        # Last, since a folder with this file counts as one whose images are listed.
        SENSORS: _table("sensor_device_id, name, sensor_type, [sensor_params]+", cameras),
    }


def _write_sensors(folder: Path, tables: Mapping[str, str], image_dir: Path | None) -> None:
    link = path_below(folder, "sensors") / "records_data"
    if tables and image_dir is not None and not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(image_dir).resolve(), target_is_directory=True)
    for name, text in tables.items():
        write_whole_text(path_below(folder, name), text)


def _check_type(feature_type: str) -> None:
    try:
        if "," in feature_type or "/" in feature_type or feature_type.startswith("."):
            raise ValueError
        checked_name(feature_type)
    except ValueError:
        raise ValueError(
            f"{feature_type!r} cannot be the name of a folder of kapture; choose another."
        ) from None


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if "," in name or _OVERLAPPING in name:
            raise ValueError(
                f"Kapture cannot carry the image name {name!r}: commas separate its columns "
                f"and {_OVERLAPPING!r} two names; rename it."
            )


def _common_widths(
    features: FeatureReader, names: Sequence[str], descriptors: bool
) -> tuple[int, int]:
    """Return the columns of keypoints and the values of a descriptor, the same in all images."""
    first: tuple[str, tuple[int, int]] | None = None
    for name in names:
        shapes = features.shapes(name)
        if descriptors and "descriptors" not in shapes:
            raise ValueError(f"{features.path} has no descriptors of the image {name!r}.")
        num_columns = 2 + ("scales" in shapes) + ("scales" in shapes and "oris" in shapes)
        widths = num_columns, shapes["descriptors"][0] if descriptors else 0
        if first is None or not features.shapes(first[0])["keypoints"][0]:
            first = name, widths
        elif shapes["keypoints"][0] and widths != first[1]:
            raise ValueError(
                f"{features.path} has {widths[0]} numbers a keypoint and {widths[1]} a descriptor "
                f"for {name!r} but {first[1][0]} and {first[1][1]} for {first[0]!r}; kapture needs "
                "the same for all images."
            )
    return first[1] if first else (2, 0)


def _choose_type(root: Path, feature_type: str | None) -> str:
    if (root / "keypoints.txt").is_file():
        raise ValueError(
            f"{root} is of version 1.0 of kapture's format; kapture_upgrade_1_0_to_1_1.py brings "
            "it to 1.1."
        )
    types = sorted(path.parent.name for path in root.glob("*/keypoints.txt"))
    if not types:
        raise FileNotFoundError(f"There are no keypoints in {root}.")
    if feature_type is None and len(types) > 1:
        raise ValueError(f"{root} has several types of keypoints, {', '.join(types)}; choose one.")
    if feature_type not in (None, *types):
        raise ValueError(f"{root} has no keypoints {feature_type!r} but {', '.join(types)}.")
    return feature_type or types[0]


def _described_by(root: Path, feature_type: str) -> _ArrayFolder | None:
    """Find the descriptors of a type of keypoints; they may have another name."""
    for path in sorted(root.glob("*/descriptors.txt")):
        described = _ArrayFolder.open(path.parent)
        if described.keypoints_type == feature_type:
            return described
    return None


def _write_matches(files: FileSet, pair: Pair, indices: np.ndarray, scores: np.ndarray) -> None:
    """Write a pair's matches; in kapture the names of a pair are in alphabetical order."""
    rows = np.column_stack([indices, scores])
    if pair[0] > pair[1]:
        pair, rows = (pair[1], pair[0]), rows[:, [1, 0, 2]]
    files.write(_OVERLAPPING.join(pair), _writer(rows, _MATCH))


def _read_matches(root: Path) -> Iterator[FoundMatches]:
    arrays = _ArrayFolder(root, _MATCH, 3)
    for path in sorted(root.rglob(f"*{_SUFFIXES['matches']}")):
        name = path.relative_to(root).as_posix().removesuffix(_SUFFIXES["matches"])
        if name.startswith(".") or not path.is_file():
            continue
        name0, _, name1 = name.partition(_OVERLAPPING)
        rows = arrays.read(name)
        if not np.isfinite(rows).all() or (np.abs(rows[:, :2]) > _MAX_INDEX).any():
            raise ValueError(f"{path} has matches that are no numbers of keypoints; copy it again.")
        yield (name0, name1), rows[:, :2].astype(np.int64), rows[:, 2], path
