"""Your own map and photographs: a COLMAP model with its photographs, and others to localize in it.

The map's photographs keep the names that the model has for them. Queries are ``queries/NAME`` in
the files of a run, and NAME, relative to their own folder, in the poses.
"""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pycolmap

from featplug.colmap.added_images import PosedImage, replace_model, with_images
from featplug.colmap.cameras import CameraOptions
from featplug.colmap.model_files import read_model
from featplug.io.files import write_whole
from featplug.io.image_files import IMAGE_SUFFIXES, ImageHeader, read_image_header
from featplug.io.image_folder import list_images
from featplug.io.links import has_only_links, link_files
from featplug.io.pair_lists import read_image_list
from featplug.io.text_files import read_lines
from featplug.localization.evaluation import RecallRules
from featplug.localization.log import POSES, STATISTICS
from featplug.localization.queries import Query, read_queries
from featplug.localization.query_cameras import FocalLengthMode, MapCameras, query_cameras
from featplug.methods import feature_conf
from featplug.metrics.poses import intrinsics, model_cameras
from featplug.stages.map import SPARSE
from pipelines.datasets.protocol import InModelOptions, ModelDataset
from pipelines.map_folder import find_map_folder, require_images
from pipelines.run import FeatureOptions
from pipelines.workspace import IMAGES

_QUERIES = "queries"
_OF_THE_USER = {"device", "overwrite", "batch_size", "max_megapixels", "methods"}
"""Options of extraction that are not taken from the run that made the map."""


@dataclass(frozen=True)
class _Places:
    """The first options of ``--help``, which lists base classes first."""

    model: Path
    """Folder of a COLMAP model, binary or text, with points or without, of a workspace with
    sparse/0, or the output folder of featplug sfm."""
    queries: Path
    """Photographs to localize: a folder, one photograph, or a list of names, alone or as hloc's
    lists with intrinsics, `name MODEL width height p0 p1 …`, relative to the folder of the list or
    to the photographs of the model."""
    images: Path | None = None
    """Folder that the model's names of photographs are relative to; by default that of the run that
    made the model, or the folder images next to it."""


@dataclass(frozen=True)
class OwnMapOptions(InModelOptions, _Places):
    """Options of localization in any COLMAP model."""

    pipeline = "localize"
    rules = RecallRules()

    camera: CameraOptions = field(default_factory=CameraOptions)
    """Cameras of the queries."""
    focal_length: FocalLengthMode = "auto"
    """Whether the queries' focal lengths are known, guesses that are refined with the pose, or
    unknown; auto: those given, or of a camera of the map by EXIF data, are known, others of EXIF
    data are guesses."""
    add: bool = False
    """Also add the localized queries to the model; the model as it was is kept next to it."""

    def completed(self) -> Self:
        """Return the options with the features of the run that made the map, where it is asked for.

        That is where the feature is not named or is that of the run, no option of it is set, and no
        file of features is given.
        """
        found = find_map_folder(self.model)
        recorded = found.record.get("options", {})
        of_run = recorded.get("extraction", {})
        given = replace(self.extraction, feature=None)
        defaults = FeatureOptions(**{n: getattr(given, n) for n in _OF_THE_USER})
        has_features = found.features is not None and not of_run.get("features")
        if not has_features or given != defaults:
            return self
        feature = of_run.get("feature") or found.record.get("feature")
        if self.extraction.feature not in (None, feature, str(feature).partition("+")[0]):
            return self
        known = {entry.name for entry in fields(FeatureOptions)} - _OF_THE_USER
        values = {n: _as_option(value) for n, value in of_run.items() if n in known}
        adopted = replace(self.extraction, **values | {"feature": feature, "features": None})
        matcher = self.matcher or recorded.get("matcher")
        return replace(self, extraction=adopted, matcher=matcher)

    def open(self, progress: bool = False) -> "OwnMap":
        """Return the map and the queries; see :class:`OwnMap`."""
        return OwnMap(self)

    @property
    def num_retrieved(self) -> int:
        """Number of database images that each query is matched with, by retrieval."""
        return 20 if self.num_loc is None else self.num_loc

    @property
    def data_name(self) -> str:
        """Names of the folders of the map and of the queries."""
        folder, queries = find_map_folder(self.model), self.queries.resolve()
        place = folder.run or folder.images or folder.model
        place = place.resolve()
        name = place.parent.name if place.name in (IMAGES, "0") else place.name
        return f"{name}-{queries.stem if queries.is_file() else queries.name}"


def _as_option(value: Any) -> Any:
    """Return a value of JSON as that of an option."""
    return tuple(value) if isinstance(value, list) else value


class OwnMap(ModelDataset):
    """A COLMAP model with its photographs, and queries.

    Raises:
        FileNotFoundError: a file does not exist, or the photographs of the model are elsewhere; the
            message says where, as far as that can be found.
        ValueError: a file is damaged, or there are no queries.
    """

    source = "the photographs that the model was made of, or write its names in another way"
    is_benchmark = False
    has_own_points = True

    def __init__(self, options: OwnMapOptions) -> None:
        self.options = options
        self.map = find_map_folder(options.model)
        super().__init__(self.map.model)
        self.model = read_model(self.map.model)
        if self.model.num_reg_images() < 1:
            raise ValueError(
                f"The COLMAP model {self.map.model} has no image with a pose; give another."
            )
        images = options.images or self.map.images
        if images is None:
            raise FileNotFoundError(
                f"The photographs of the model {self.map.model} are not in a folder images next "
                "to it; give their folder by --images."
            )
        self.images = Path(images)
        self.database = model_cameras(self.model)
        self.present = require_images(list(self.database), self.images)
        self.prefix = _unused_prefix(self.database)
        self.query_root, self.listed = find_queries(options.queries, self.images)
        self.paths = {f"{self.prefix}/{name}": self.query_root / name for name in self.listed}
        """Name of each query in the files of a run to its file."""

    @property
    def sources(self) -> tuple[str, str, str]:
        """What to do about the model, the queries and the images."""
        return (
            "another copy of the model",
            "the queries, and name their folder by --queries",
            "the photographs: name the folder that the model's names start from by --images",
        )

    def image_path(self, name: str) -> Path:
        """Return the file of a photograph of the map, or of a query."""
        return self.paths.get(name) or self.images / name

    def submission_name(self, name: str) -> str:
        """Return the name of a query relative to its own folder."""
        return name.removeprefix(f"{self.prefix}/") if name in self.paths else name

    def reference_model(self) -> pycolmap.Reconstruction:
        """Return the model."""
        return self.model

    def truth(self) -> dict[str, np.ndarray] | None:
        """Return None: true poses are given by an option."""
        return None

    def queries(self) -> dict[str, list[Query]]:
        """Return the queries with the cameras that were chosen for them."""
        return {"": self._queries_with_cameras[0]}

    @property
    def notes(self) -> list[str]:
        """Description of the queries' cameras, for people."""
        return self._queries_with_cameras[1]

    @cached_property
    def _queries_with_cameras(self) -> tuple[list[Query], list[str]]:
        known = {name: camera for name, camera in self.listed.items() if camera is not None}
        headers: dict[str, ImageHeader] = {}
        unreadable = pycolmap.Camera(model="SIMPLE_PINHOLE", width=1, height=1, params=[1, 0, 0])
        queries: dict[str, Query] = {}
        for name, path in self.paths.items():
            given = known.get(self.submission_name(name))
            queries[name] = Query(name, given or unreadable)
            if given is None:
                with suppress(OSError, ValueError):  # found again before the work, and reported
                    headers[self.submission_name(name)] = read_image_header(path)
        chosen = query_cameras(
            headers, self.options.camera, self._map_cameras(), self.options.focal_length
        )
        for query in chosen.queries:
            name = f"{self.prefix}/{query.name}"
            queries[name] = replace(query, name=name)
        listed = [f"{len(known)} queries: intrinsics of the list"] if known else []
        return list(queries.values()), listed + chosen.lines

    def _map_cameras(self) -> MapCameras:
        """Return the cameras of the map, whose bodies one photograph of each shows."""
        shown: dict[object, str] = {}
        for name in self.present:
            shown.setdefault(intrinsics(self.database[name]), name)
        headers = []
        for name in shown.values():
            with suppress(OSError, ValueError):
                headers.append((name, read_image_header(self.images / name)))
        return MapCameras.of_images(self.database, headers)

    def listed_name(self, name: str) -> str:
        """Return the name of a query relative to its own folder."""
        return self.submission_name(name)

    def finish(self, images: Sequence[PosedImage]) -> dict[str, Any]:
        """Add the localized queries to the model, where it is asked for."""
        data: dict[str, Any] = {"cameras": self.notes, "files": [POSES, STATISTICS, str(SPARSE)]}
        if not self.options.add:
            return data
        added = []
        for image in images:
            path = self.paths[image.name].absolute()
            if path.is_relative_to(self.images.absolute()):
                name = path.relative_to(self.images.absolute()).as_posix()
                image = replace(image, name=name)
            added.append(image)
        extended = with_images(self.model, added, self.options.max_error)
        data["added"] = extended.num_images() - self.model.num_images()
        if data["added"]:
            data["earlier_model"] = str(replace_model(extended, self.map.model))
        return data

    def prepare(self, outputs: Path, names: Sequence[str]) -> None:
        """Link all photographs into one folder, and copy the features of the map.

        Raises:
            ValueError: the output folder has other files in their place, or has no links.
        """
        folder = outputs / IMAGES
        if folder.exists() and not has_only_links(folder):
            raise ValueError(
                f"{folder} holds files that no run has made; choose another folder by --outputs."
            )
        targets = {name: self.image_path(name).resolve() for name in names}
        if not link_files(folder, targets):
            raise ValueError(
                f"There can be no links in {outputs}; choose a folder on another disk by --outputs."
            )
        self.image_dir = folder
        self._copy_features(outputs)

    def _copy_features(self, outputs: Path) -> None:
        """Copy the feature file of the run that made the map, which queries are added to."""
        extraction, source = self.options.extraction, self.map.features
        if source is None or extraction.features is not None or extraction.overwrite:
            return
        path = outputs / f"{feature_conf(extraction.method.feature)['output']}.h5"
        if source.name == path.name and not path.exists():
            write_whole(path, lambda part: shutil.copyfile(source, part))


def _unused_prefix(names: Sequence[str] | dict[str, Any]) -> str:
    """Return a folder for the queries that no name of the model starts with."""
    first = {name.partition("/")[0] for name in names}
    number, prefix = 1, _QUERIES
    while prefix in first:
        number += 1
        prefix = f"{_QUERIES}-{number}"
    return prefix


def find_queries(queries: Path, images: Path) -> tuple[Path, dict[str, pycolmap.Camera | None]]:
    """Find the photographs to localize.

    Args:
        queries: a folder, a photograph, or a list of names, with intrinsics or without.
        images: folder of the photographs of the map, which names may be relative to.

    Returns:
        The folder that the names are relative to, and each name with its intrinsics, or None.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is no photograph, or a list is damaged.
    """
    if queries.is_dir():
        return queries, dict.fromkeys(list_images(queries))
    if queries.suffix.lower() in IMAGE_SUFFIXES:
        if not queries.is_file():
            raise FileNotFoundError(f"There is no photograph {queries}.")
        return queries.parent, {queries.name: None}
    if not queries.is_file():
        raise FileNotFoundError(
            f"There is no folder and no list {queries}; give the photographs to localize by "
            "--queries."
        )
    lines = read_lines(queries, "query list")
    has_intrinsics = any(len(line.split()) > 1 for _, line in lines)
    listed: dict[str, pycolmap.Camera | None]
    if has_intrinsics:
        listed = {query.name: query.camera for query in read_queries(queries)}
    else:
        listed = dict.fromkeys(read_image_list(queries))
    if not listed:
        raise ValueError(f"The list {queries} has no photographs.")
    places = [queries.parent, images, queries.parent / IMAGES]
    for place in places:
        if any((place / name).is_file() for name in listed):
            return place, listed
    raise FileNotFoundError(
        f"{queries}: none of its {len(listed)} photographs, such as {next(iter(listed))!r}, is in "
        f"{queries.parent} or {images}; move the list to the folder that its names start from."
    )
