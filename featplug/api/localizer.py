"""Poses of single photographs in a COLMAP model, with all that takes time to load kept in memory.

::

    localizer = featplug.Localizer("outputs/sfm/town-sift")
    found = localizer.localize("query.jpg")
    found.is_localized, found.cam_from_world, found.confidence

The stages are those of ``featplug localize``, and so are the poses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pycolmap

from featplug.api import Feature, FeatureMatcher, Features, load_matcher
from featplug.api.feature_types import found_matches
from featplug.colmap.cameras import CameraOptions
from featplug.colmap.model_files import read_model
from featplug.io.exif import ExifCamera
from featplug.io.image_files import ImageHeader, read_image_header
from featplug.io.image_inputs import ImageLike
from featplug.io.orientation import Turn
from featplug.io.parts.feature_parts import open_features
from featplug.localization.absolute_pose import AbsolutePoseOptions
from featplug.localization.file_localizer import LocalizedQuery
from featplug.localization.in_model import ModelLocalizer, ModelLocalizerOptions, ModelPoints
from featplug.localization.map_files import MapFiles, find_map
from featplug.localization.queries import Query
from featplug.localization.query_cameras import MapCameras, query_cameras
from featplug.methods import conf_of_features, resolve_conf, retrieval_conf
from featplug.metrics.poses import camera_centres, model_cameras, model_poses
from featplug.stages.extract import ExtractOptions, as_stored, features_provenance
from featplug.stages.match import FeatureCache
from featplug.stages.matcher_inputs import MatcherInputs
from featplug.stages.retrieve import global_descriptors
from featplug.stages.retrieve_query import QueryRetrieval


@dataclass(frozen=True, kw_only=True)
class LocalizerOptions(ModelLocalizerOptions):
    """How photographs are localized."""

    retrieval: str | None = None
    """Name of the retrieval method; by default that of the model's run, or vlad."""
    device: str | None = None
    """Device of the networks, for example cpu or cuda:1; the best available one by default."""
    memory_gib: float = 2.0
    """Memory in GiB for features of database images; one of 2,000 128-D descriptors takes 0.001.
    Others are read from the file when they are retrieved."""
    pose: AbsolutePoseOptions = field(default_factory=AbsolutePoseOptions)
    """Thresholds and seed of RANSAC."""


@dataclass(frozen=True, eq=False)
class Localization:
    """Outcome for one photograph."""

    cam_from_world: np.ndarray | None
    """Pose 3×4, also where it is not to be trusted; None where no pose was found."""
    camera: pycolmap.Camera
    """Intrinsics that were given, or that were estimated with the pose."""
    num_inliers: int
    """Number of inliers of the pose."""
    confidence: float
    """Confidence in the pose, in [0, 1]; see :mod:`featplug.localization.confidence`."""
    reason: str | None
    """Reason why the photograph is not localized; None where it is."""
    warning: str | None
    """What makes a pose doubtful, such as a focal length that the matches do not determine."""
    points2d: np.ndarray
    """K×2, keypoints that are inliers, in pixels (integer = pixel centre)."""
    points3d: np.ndarray
    """K×3, their points in the world."""
    retrieved: list[str]
    """Database images that the photograph was matched with, the most similar first."""

    @classmethod
    def of(cls, localized: LocalizedQuery, retrieved: list[str]) -> Self:
        """Return the outcome of a query."""
        pose = localized.pose
        if pose is None:
            nothing = np.zeros((0, 2)), np.zeros((0, 3))
            return cls(
                None, localized.query.camera, 0, 0.0, localized.reason, None, *nothing, retrieved
            )
        matches, _ = localized.best_attempt
        return cls(
            pose.cam_from_world,
            pose.camera,
            pose.num_inliers,
            pose.confidence,
            localized.reason,
            pose.warning,
            matches.keypoints[pose.inliers],
            matches.points3d[pose.inliers],
            retrieved,
        )

    @property
    def is_localized(self) -> bool:
        """Whether the pose is to be trusted."""
        return self.reason is None


class Localizer:
    """Localizes photographs in a COLMAP model, one by one.

    Features of the database images stay in memory as far as ``memory_gib`` allows, and so do their
    global descriptors, the networks and the model. The descriptors for retrieval are computed once,
    and kept next to the feature file. One localizer works on one photograph at a time.

    Args:
        model: the output folder of ``featplug sfm`` or ``featplug localize``, whose features and
            methods are used; or the folder of a COLMAP model, with its ``features``.
        feature: the feature, its name or conf; by default the one that the feature file records.
        features: feature file of the model's images, whose keypoints are those of the model.
        images: folder of the model's images, for retrieval by a network and matchers of images.
        matcher: the matcher, its name or conf; by default that of the run, or the feature's own.
        options: how photographs are localized.
        changes: fields of :class:`LocalizerOptions` that replace those of ``options``.

    Raises:
        FileNotFoundError: the model, the features or weights do not exist.
        ValueError: the features are not those of the model, or were made by another method.
    """

    def __init__(
        self,
        model: str | Path,
        feature: str | Mapping[str, Any] | Feature | None = None,
        *,
        features: str | Path | None = None,
        images: str | Path | None = None,
        matcher: str | Mapping[str, Any] | FeatureMatcher | None = None,
        options: LocalizerOptions | None = None,
        **changes: Any,
    ) -> None:
        self.options = replace(options or LocalizerOptions(), **changes)
        files = find_map(Path(model))
        given = {"features": features, "images": images}
        paths = {key: Path(path) for key, path in given.items() if path is not None}
        files = replace(files, **paths)  # type: ignore[arg-type]
        if files.features is None:
            raise ValueError(
                f"{model} is a COLMAP model, whose descriptors are not known; name the feature "
                "file of its images by features, or give the output folder of featplug localize."
            )
        self._reader = open_features(files.features)
        self._feature, self._storage = self._load_feature(files, feature)
        self._matcher = self._load_matcher(files, matcher)
        self._model = read_model(files.model)
        self._points = ModelPoints(self._model)
        self._database = self._check_database(files)
        inputs = MatcherInputs(
            self._reader, self._matcher.matcher, self._matcher.device, files.images
        )
        self._cache = FeatureCache(inputs, int(self.options.memory_gib * 2**30))
        for name in self._database[: self._cache.capacity([(n, n) for n in self._database])]:
            self._cache.load(name)
        self._retrieval = self._load_retrieval(files)
        self._map_cameras = MapCameras.of_folder(model_cameras(self._model), files.images)
        poses = model_poses(self._model)
        self._centres = camera_centres(np.stack([poses[n] for n in self._retrieval.database]))

    def _load_feature(
        self, files: MapFiles, feature: str | Mapping[str, Any] | Feature | None
    ) -> tuple[Feature, ExtractOptions]:
        """Return the feature, and how the file stores what it extracts."""
        made_from = self._reader.provenance
        if feature is None:
            feature = files.feature or conf_of_features(self._reader.model)
            if feature is None:
                raise ValueError(
                    f"{self._reader.path} does not record the feature that it was made with; name "
                    "it by feature."
                )
            if files.feature is None and made_from is not None:
                recorded = {key: made_from.conf.get(key) for key in ("model", "preprocessing")}
                feature = resolve_conf({**feature, **{k: v for k, v in recorded.items() if v}})
        if not isinstance(feature, Feature):
            feature = Feature(
                feature,
                device=self.options.device,
                precision=files.precision,
                orientation=files.orientation,
            )
        conf = {} if made_from is None else made_from.conf
        storage = ExtractOptions(
            as_half=conf.get("as_half", True),
            half_keypoints=conf.get("half_keypoints", False),
            precision=feature.precision,  # type: ignore[arg-type]
        )
        if made_from is not None:
            difference = made_from.difference(
                features_provenance(feature, storage), "the feature for the queries"
            )
            if difference is not None:
                raise ValueError(
                    f"{self._reader.path} {difference}; name the feature that made the file."
                )
        return feature, storage

    def _load_matcher(
        self, files: MapFiles, matcher: str | Mapping[str, Any] | FeatureMatcher | None
    ) -> FeatureMatcher:
        if isinstance(matcher, FeatureMatcher):
            return matcher
        loaded = load_matcher(
            matcher or files.matcher,
            self._feature,
            device=self.options.device,
            strongest=files.strongest,
        )
        if not isinstance(loaded, FeatureMatcher):
            raise ValueError(
                f"{matcher} matches two images without features of each; choose a matcher of "
                "features."
            )
        return loaded

    def _query(self, path: Path | None, size: tuple[int, int]) -> Query:
        """Return a query with the camera that ``featplug localize`` chooses for it."""
        name = "query" if path is None else str(path)
        header = ImageHeader(size, "PNG", "RGB", ExifCamera(), 1, None)
        if path is not None:
            header = read_image_header(path)
        (query,) = query_cameras({name: header}, CameraOptions(), self._map_cameras).queries
        return query

    def _check_database(self, files: MapFiles) -> list[str]:
        """Return the images of the model that have features, sorted."""
        names = sorted(name for name in self._points.image_ids if name in self._reader)
        if not names:
            raise ValueError(
                f"{self._reader.path} has no features of an image of {files.model}, such as "
                f"{next(iter(self._points.image_ids), 'none')!r}; give the features of the model."
            )
        for name in names:
            num = self._reader.shapes(name)["keypoints"][0]
            num_in_model = len(self._points.rows(name))
            if num != num_in_model:
                raise ValueError(
                    f"{self._reader.path} has {num} keypoints of {name!r}, the model in "
                    f"{files.model} {num_in_model}; give the features that the model was made "
                    "from, or triangulate these by featplug localize."
                )
        return names

    def _load_retrieval(self, files: MapFiles) -> QueryRetrieval:
        name = self.options.retrieval or files.retrieval
        described = global_descriptors(
            name,
            files.images,
            self._reader.path.parent,
            self._database,
            features=self._reader.path,
            database=self._database,
            database_may_change=True,
            orientation=files.orientation,
            device=self.options.device,
        )
        return QueryRetrieval(
            retrieval_conf(name),
            described.descriptor_path,
            described.names,
            self.options.device,
            files.orientation,
        )

    @property
    def summary(self) -> dict[str, Any]:
        """What photographs are localized in, and by which methods, as values of JSON."""
        return {
            "images": len(self._retrieval.database),
            "points": len(self._points.xyz),
            "feature": self._feature.conf["model"],
            "matcher": self._matcher.conf["model"],
            "retrieval": self._retrieval.conf["model"],
            "device": str(self._feature.device),
        }

    def extract(self, image: ImageLike) -> Features:
        """Extract what :meth:`localize` needs of a photograph; see :meth:`Feature.extract`."""
        return self._feature.extract(image)

    def localize(
        self,
        image: ImageLike | Features,
        camera: pycolmap.Camera | None = None,
        num_retrieved: int = 20,
        *,
        near: Sequence[float] | None = None,
        radius: float | None = None,
    ) -> Localization:
        """Localize a photograph.

        Args:
            image: a file, an array or a tensor, see :meth:`Feature.extract`; or what
                :meth:`extract` returned.
            camera: intrinsics; by default the focal length of the file's EXIF data, which is
                refined, or one that is estimated with the pose.
            num_retrieved: number of database images to match with.
            near: prior position of the camera, x, y and z in the world. Only database images within
                ``radius`` of it are matched.
            radius: a distance in the unit of the model.

        Raises:
            FileNotFoundError: no such file exists.
            ValueError: the image cannot be used, or the camera does not fit it.
        """
        if num_retrieved < 1:
            raise ValueError(f"num_retrieved must be at least 1, not {num_retrieved}.")
        if (near is None) != (radius is None):
            raise ValueError("A prior position needs both near, a position, and radius.")
        features = image if isinstance(image, Features) else self.extract(image)
        pixels = _upright_pixels(image) if isinstance(image, Features) else image
        path = Path(image) if isinstance(image, str | Path) else None
        if camera is None:
            query = self._query(path, features.image_size)
        else:
            query = Query(str(path or "query"), camera)
        sizes = features.image_size, (query.camera.width, query.camera.height)
        if sizes[0] != sizes[1]:
            (width, height), (camera_width, camera_height) = sizes
            raise ValueError(
                f"{query.name}: the image has {width}×{height} pixels, its camera "
                f"{camera_width}×{camera_height}; give the camera of this image."
            )
        features = _as_read(features, self._storage)
        allowed = None
        if near is not None:
            distances = np.linalg.norm(self._centres - np.asarray(near, float), axis=1)
            allowed = distances <= radius
        descriptor = self._retrieval.describe(pixels, features)
        retrieved = self._retrieval.nearest(descriptor, num_retrieved, allowed)
        return self._localize(query, features, retrieved)

    def _localize(self, query: Query, features: Features, retrieved: list[str]) -> Localization:
        matches = _QueryMatches(features.keypoints)
        data = self._matcher.inputs(features)
        for name in retrieved:
            result = self._matcher.matcher.match_pair(data, self._cache.load(name))
            matches.pairs[name] = found_matches(result)
        localizer = ModelLocalizer(matches, matches, self.options.pose, self._points, self.options)
        (localized,) = localizer.localize([query], {query.name: retrieved}, 1)
        return Localization.of(localized, retrieved)


@dataclass(frozen=True)
class _QueryMatches:
    """Keypoints and matches of one query, in memory."""

    of_query: np.ndarray
    pairs: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    """Database image to the indices and scores of its matches."""

    def keypoints(self, name: str) -> np.ndarray:
        """Return the keypoints of the query, whose name is not looked at."""
        return self.of_query

    def __contains__(self, pair: tuple[str, str]) -> bool:
        return pair[1] in self.pairs

    def read(
        self, name0: str, name1: str, num_keypoints: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the matches with a database image, ``name1``."""
        return self.pairs[name1]


def _upright_pixels(features: Features) -> np.ndarray | None:
    """Return the pixels that features were extracted from, as they were looked at; None if lost."""
    if features.image is None:
        return None
    return Turn(features.image_size, features.orientation).upright_pixels(features.image)


def _as_read(features: Features, storage: ExtractOptions) -> Features:
    """Return features as they would be read from a feature file."""
    arrays = as_stored(features.arrays(), storage)
    read = {
        key: array.astype(np.float32) if array.dtype == np.float16 else array
        for key, array in arrays.items()
    }
    return replace(
        features,
        keypoints=read.pop("keypoints"),
        scores=read.pop("scores"),
        descriptors=read.pop("descriptors").T,
        extras=read,
    )
