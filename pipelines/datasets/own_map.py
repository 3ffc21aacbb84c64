"""Your own map and photographs: a COLMAP model with its photographs, and others to localize in it.

The map's photographs keep the names that the model has for them. Queries are ``queries/NAME`` in
the files of a run, and NAME, relative to their own folder, in the poses.
"""

import shutil
from collections.abc import Collection, Mapping, Sequence
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
from featplug.colmap.rigs import read_rigs
from featplug.io.files import write_whole
from featplug.io.folder_lock import locked_folder
from featplug.io.image_files import ImageHeader, read_image_header
from featplug.io.links import has_only_links, link_files
from featplug.io.masks import Masks
from featplug.localization.evaluation import RecallRules
from featplug.localization.log import POSES, STATISTICS
from featplug.localization.queries import Query
from featplug.localization.query_cameras import FocalLengthMode, MapCameras, query_cameras
from featplug.localization.rig_pose import RigFrame
from featplug.methods import feature_conf
from featplug.metrics.poses import model_cameras, model_poses
from featplug.stages.map import SPARSE
from pipelines.datasets.protocol import InModelOptions, ModelDataset
from pipelines.map_folder import find_map_folder, require_images
from pipelines.prior_positions import PriorOptions
from pipelines.query_files import find_queries, pose_in_rig
from pipelines.run_options import FeatureOptions
from pipelines.workspace import IMAGES

_QUERIES, _MASKS = "queries", "masks"
_OF_THE_USER = {"device", "overwrite", "batch_size", "max_megapixels", "methods", "masks"}
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
class OwnMapOptions(PriorOptions, InModelOptions, _Places):
    """Options of localization in any COLMAP model."""

    pipeline = "localize"
    rules = RecallRules()

    num_loc: int | None = None
    """Number of the map's photographs that each query is matched with, by retrieval; 20 by default.
    """
    camera: CameraOptions = field(default_factory=CameraOptions)
    """Cameras of the queries."""
    focal_length: FocalLengthMode = "auto"
    """Whether the queries' focal lengths are known, guesses that are refined with the pose, or
    unknown; auto: those given, or of a camera of the map by EXIF data, are known, others of EXIF
    data are guesses."""
    query_masks: Path | None = None
    """Folder of masks of the queries; --masks are those of the photographs of the map."""
    query_rig: Path | None = None
    """Cameras of the queries that are fixed to each other, in COLMAP's rig_config.json with their
    poses in the rig; queries of one name after the prefixes of two cameras are localized together.
    """
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
        if not has_features or given != defaults or self.pair_matcher is not None:
            return self
        feature = of_run.get("feature") or found.record.get("feature")
        if self.extraction.feature not in (None, feature, str(feature).partition("+")[0]):
            return self
        known = {entry.name for entry in fields(FeatureOptions)} - _OF_THE_USER
        values = {n: _as_option(value) for n, value in of_run.items() if n in known}
        masks = self.extraction.masks or (Path(of_run["masks"]) if of_run.get("masks") else None)
        given_names = {"feature": feature, "features": None, "masks": masks}
        adopted = replace(self.extraction, **values | given_names)
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
        queries = self.queries.resolve()
        place = find_map_folder(self.model).place.resolve()
        return f"{place.name}-{queries.stem if queries.is_file() else queries.name}"


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
        super().__init__(self.map.place)
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
        self.rigs = None if options.query_rig is None else read_rigs(options.query_rig)
        if self.rigs is not None and not self.rigs.has_poses:
            raise ValueError(
                f"{options.query_rig} lacks cam_from_rig of some cameras; give all these poses, "
                "or localize without --query-rig."
            )
        self.rig_cameras = self.rigs.cameras_of(list(self.listed)) if self.rigs else {}
        self.priors = options.read_priors(self.query_root, self.listed, self.map.model)

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

    def camera_lines(self) -> list[str]:
        """Return how the queries' cameras were chosen, as lines of text."""
        return self._queries_with_cameras[1]

    @cached_property
    def _queries_with_cameras(self) -> tuple[list[Query], list[str]]:
        known = {name: camera for name, camera in self.listed.items() if camera is not None}
        headers: dict[str, ImageHeader] = {}
        unreadable = pycolmap.Camera(model="SIMPLE_PINHOLE", width=1, height=1, params=[1, 0, 0])
        queries: dict[str, Query] = {}
        for name, path in self.paths.items():
            given = known.get(self.submission_name(name)) or self._intrinsics_in_rig(name)
            queries[name] = Query(name, given or unreadable)
            if given is None:
                with suppress(OSError, ValueError):  # found again before the work, and reported
                    headers[self.submission_name(name)] = read_image_header(path)
        chosen = query_cameras(
            headers,
            self.options.camera,
            MapCameras.of_folder(self.database, self.images),
            self.options.focal_length,
        )
        for query in chosen.queries:
            name = f"{self.prefix}/{query.name}"
            queries[name] = replace(query, name=name)
        listed = [f"{len(known)} queries: intrinsics of the list"] if known else []
        return list(queries.values()), listed + chosen.lines

    def _intrinsics_in_rig(self, name: str) -> pycolmap.Camera | None:
        """Return the intrinsics that the file of rigs has for a query, or None."""
        camera = self.rig_cameras.get(self.submission_name(name))
        if camera is None:
            return None
        with suppress(OSError, ValueError):
            return camera.intrinsics(read_image_header(self.paths[name]).size)
        return None

    def listed_name(self, name: str) -> str:
        """Return the name of a query relative to its own folder."""
        return self.submission_name(name)

    def near(self, query: str) -> Collection[str] | None:
        """Return the photographs of the map near the prior position of a query, or None."""
        if self.priors is None:
            return None
        names, poses = self._poses
        distances = self.priors.distances(self.listed_name(query), poses)
        if distances is None:
            return None
        return {n for n, far in zip(names, distances, strict=True) if far <= self.priors.radius}

    @cached_property
    def _poses(self) -> tuple[list[str], np.ndarray]:
        poses = model_poses(self.model)
        return list(poses), np.stack(list(poses.values()))

    def doubt(self, query: str, cam_from_world: np.ndarray) -> str | None:
        """Return the reason to reject a pose that is far from the prior position, or None."""
        if self.priors is None:
            return None
        return self.priors.doubt(self.listed_name(query), cam_from_world)

    def rig_frames(self, queries: Mapping[str, Query]) -> list[RigFrame]:
        """Return the queries that a rig took at one time."""
        if self.rigs is None:
            return []
        listed = {self.listed_name(name): query for name, query in queries.items()}
        frames = []
        for images in (frame for rig in self.rigs.sequences(list(self.listed)) for frame in rig):
            known = [name for name in images if name in listed]
            if known:
                poses = [pose_in_rig(self.rig_cameras[name]) for name in known]
                frames.append(RigFrame([listed[name] for name in known], poses))
        return frames

    def finish(self, images: Sequence[PosedImage]) -> dict[str, Any]:
        """Add the localized queries to the model, where it is asked for."""
        data: dict[str, Any] = {"files": [POSES, STATISTICS, str(SPARSE)]}
        if not self.options.add:
            return data
        known = {(self.images / name).resolve() for name in self.present}
        added = []
        for image in images:
            path = self.paths[image.name].absolute()
            if path.is_relative_to(self.images.absolute()):
                image = replace(image, name=path.relative_to(self.images.absolute()).as_posix())
            elif path.resolve() in known:
                continue  # added before
            added.append(image)
        with locked_folder(self.map.place):
            model = read_model(self.map.model)  # another run may have added images meanwhile
            extended = with_images(model, added, self.options.max_error)
            data["added"] = extended.num_images() - model.num_images()
            if data["added"]:
                data["earlier_model"] = str(replace_model(extended, self.map.model))
                data["images_linked"] = self._link_into_map(added)
        return data

    def _link_into_map(self, added: Sequence[PosedImage]) -> bool:
        """Link added queries into the map's ``images``, where a run made that of links."""
        folder = self.map.place / IMAGES
        if self.map.run is None or not folder.is_dir() or not has_only_links(folder):
            return False
        files = (path for path in folder.rglob("*") if path.is_file())
        paths = {path.relative_to(folder).as_posix(): path.resolve() for path in files}
        for image in added:
            path = self.paths.get(image.name, self.images / image.name)
            paths.setdefault(image.name, path.resolve())
        return link_files(folder, paths)

    def prepare(self, outputs: Path, names: Sequence[str]) -> None:
        """Link all photographs into one folder, and copy the features of the map.

        Raises:
            ValueError: the output folder has other files in their place, or has no links.
        """
        folder = outputs / IMAGES
        for made in (folder, outputs / _MASKS):
            if made.exists() and not has_only_links(made):
                raise ValueError(
                    f"{made} holds files that no run has made; choose another folder by --outputs."
                )
        targets = {name: self.image_path(name).resolve() for name in names}
        if not link_files(folder, targets):
            raise ValueError(
                f"There can be no links in {outputs}; choose a folder on another disk by --outputs."
            )
        self.image_dir = folder
        self._link_masks(outputs, names)
        self._copy_features(outputs)

    def _link_masks(self, outputs: Path, names: Sequence[str]) -> None:
        """Link the masks of the map and of the queries into one folder."""
        targets = {}
        of_map, of_queries = self.options.extraction.masks, self.options.query_masks
        queries = {self.listed_name(name): name for name in names if name in self.paths}
        if of_queries is not None:
            found = Masks(of_queries, list(queries))
            targets = {n: path for name, n in queries.items() if (path := found.path(name))}
        if of_map is not None:
            database = [name for name in names if name not in self.paths]
            found = Masks(of_map, database)
            targets |= {name: path for name in database if (path := found.path(name))}
        if targets:
            self.masks = outputs / _MASKS
            link_files(self.masks, {f"{n}.png": path.resolve() for n, path in targets.items()})

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
