"""Similarities between models that share images, from the images' poses and the points they see.

Each shared image gives a similarity of its own: the rotation and the centre from its two poses, the
scale from the distances of the points that it sees in both models. So no sampling is needed, and
cameras in a row, whose centres alone leave a turn open, can be aligned. The similarity that most
shared observations fit is refined on these.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pycolmap
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from scipy.spatial.transform import Rotation

from featplug.metrics.poses import camera_centres, rotation_angles
from featplug.metrics.similarity import Similarity

_MAX_ANGLE = 0.01
"""Largest angle between the directions to a point of both models in radians, 10 px at a focal
length of 1000 px."""
_MAX_DISTANCE_RATIO = 1.25
"""Largest ratio of the distances of a point in both models."""
_MAX_TURN, _MAX_MOVE = 2.0, 0.1
"""Largest angle between the orientations of an image in both models in degrees, and largest
distance between its centres, relative to the distance of its points."""
_FEWEST_OF_IMAGE = 5
"""Number of shared observations from which an image gives a similarity."""
_FEWEST_FITTING, _LEAST_FRACTION = 30, 0.3
"""Number and fraction of the shared observations that must fit; a few do by chance."""
_FEWEST_IMAGES = 2
"""Number of images that must agree, since one alone may be wrong in one of the models."""
_ROUNDS = 3


@dataclass(frozen=True)
class ModelArrays:
    """What alignment and merging need of a model."""

    poses: dict[int, np.ndarray]
    """Number of each registered image to its ``cam_from_world``, 3×4."""
    observations: np.ndarray
    """Number of the image and index of the keypoint of each observation, K×2."""
    rows: np.ndarray
    """Row in ``points`` of each observation, K."""
    points: np.ndarray
    """N×3."""


@dataclass(frozen=True)
class Alignment:
    """How one model lies in another."""

    similarity: Similarity
    """From the source to the target."""
    num_fitting: int
    """Number of shared observations that fit it."""
    num_images: int
    """Number of shared images whose poses, and most of whose observations, fit it."""


@dataclass(frozen=True)
class AlignedGroup:
    """Models in one frame, that of the first."""

    members: list[int]
    """Indices of the models, in the order in which they were aligned."""
    similarities: dict[int, Similarity] = field(default_factory=dict)
    """Index to the similarity to the first model."""


def model_arrays(model: pycolmap.Reconstruction) -> ModelArrays:
    """Read a model into arrays."""
    row_of = {point_id: row for row, point_id in enumerate(model.points3D)}
    poses, observations, rows = {}, [], []
    for image_id in sorted(model.reg_image_ids()):
        image = model.images[image_id]
        poses[image_id] = image.cam_from_world().matrix()
        indices = np.asarray(image.get_observation_point2D_idxs(), np.int64)
        observations.append(np.column_stack([np.full(len(indices), image_id), indices]))
        rows += [row_of[point.point3D_id] for point in image.get_observation_points2D()]
    return ModelArrays(
        poses,
        np.concatenate([np.zeros((0, 2), np.int64), *observations]),
        np.array(rows, np.int64),
        np.array([point.xyz for point in model.points3D.values()]).reshape(-1, 3),
    )


def align_models(source: ModelArrays, target: ModelArrays) -> Alignment | None:
    """Return the similarity from one model to another of other images of the same scene, or None.

    The models are of one database, so that images and keypoints have the same numbers. None is
    returned where they share too little, or contradict each other.
    """
    images = sorted(source.poses.keys() & target.poses.keys())
    if len(images) < _FEWEST_IMAGES:
        return None
    shared = _SharedObservations.of(source, target, images)
    best = np.zeros(len(shared.image), bool)
    similarity = None
    for number in range(len(images)):
        if np.count_nonzero(shared.image == number) < _FEWEST_OF_IMAGE:
            continue
        candidate = shared.similarity_of(number)
        fitting = shared.fitting(candidate)
        if fitting.sum() > best.sum():
            best, similarity = fitting, candidate
    if similarity is None:
        return None
    for _ in range(_ROUNDS):
        refined = shared.refined(similarity, best)
        fitting = shared.fitting(refined)
        if fitting.sum() < best.sum():
            break
        best, similarity = fitting, refined
    num = int(best.sum())
    num_agreeing = int(shared.is_agreeing(similarity, best).sum())
    is_certain = num >= max(_FEWEST_FITTING, _LEAST_FRACTION * len(best))
    if not is_certain or num_agreeing < _FEWEST_IMAGES:
        return None
    return Alignment(similarity, num, num_agreeing)


def align_all(models: Sequence[ModelArrays]) -> list[AlignedGroup]:
    """Align models with each other, by the alignments that most shared observations fit.

    Returns:
        Groups of models in one frame, that with most images first. A model that can be aligned with
        no other is a group of its own.
    """
    found: dict[tuple[int, int], Alignment] = {}
    for target in range(len(models)):
        for source in range(target + 1, len(models)):
            alignment = align_models(models[source], models[target])
            if alignment is not None:
                found[source, target] = alignment
    pairs = np.array(list(found), np.int64).reshape(-1, 2)
    costs = np.array([1 / alignment.num_fitting for alignment in found.values()])
    graph = coo_array((costs, (pairs[:, 0], pairs[:, 1])), (len(models), len(models))).tocsr()
    tree = minimum_spanning_tree(graph)
    _, label = connected_components(tree, directed=False)
    groups = []
    for number in np.unique(label):
        members = np.flatnonzero(label == number)
        root = max(members.tolist(), key=lambda index: (len(models[index].poses), -index))
        order, before = breadth_first_order(tree, root, directed=False)
        group = AlignedGroup(order.tolist(), {root: Similarity(1.0, np.eye(3), np.zeros(3))})
        for index in order[1:].tolist():
            nearer = int(before[index])
            if (index, nearer) in found:
                step = found[index, nearer].similarity
            else:
                step = found[nearer, index].similarity.inverse()
            group.similarities[index] = _composed(group.similarities[nearer], step)
        groups.append(group)

    def num_images(group: AlignedGroup) -> int:
        return len(set().union(*(models[index].poses for index in group.members)))

    return sorted(groups, key=lambda group: (-num_images(group), group.members[0]))


def _composed(outer: Similarity, inner: Similarity) -> Similarity:
    return Similarity(
        outer.scale * inner.scale,
        outer.rotation @ inner.rotation,
        outer.apply(inner.translation[None])[0],
    )


@dataclass(frozen=True)
class _SharedObservations:
    """Observations that two models have points of, and the poses of their images."""

    image: np.ndarray
    """Index of each observation's image in the poses, K."""
    poses: tuple[np.ndarray, np.ndarray]
    """``cam_from_world`` of the shared images in the source and the target, I×3×4."""
    points: tuple[np.ndarray, np.ndarray]
    """Points of the observations in the source and the target, K×3."""

    @classmethod
    def of(
        cls, source: ModelArrays, target: ModelArrays, images: Sequence[int]
    ) -> "_SharedObservations":
        """Find the shared observations of shared images."""
        keys, keys_target = (model.observations @ [1 << 32, 1] for model in (source, target))
        both, in_source, in_target = np.intersect1d(keys, keys_target, return_indices=True)
        of_image = np.searchsorted(images, both >> 32)
        return cls(
            of_image,
            (
                np.stack([source.poses[number] for number in images]),
                np.stack([target.poses[number] for number in images]),
            ),
            (
                source.points[source.rows[in_source]],
                target.points[target.rows[in_target]],
            ),
        )

    @property
    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """Centres of the images in the source and the target, I×3."""
        source, target = self.poses
        return camera_centres(source), camera_centres(target)

    @property
    def distances(self) -> tuple[np.ndarray, np.ndarray]:
        """Distances of the points from the centres in the source and the target, K."""
        first, second = (
            np.linalg.norm(points - centres[self.image], axis=1)
            for points, centres in zip(self.points, self.centres, strict=True)
        )
        return first, second

    def rotations(self) -> np.ndarray:
        """Return the rotation of the similarity by each image, I×3×3."""
        source, target = self.poses
        return np.einsum("nji,njk->nik", target[:, :, :3], source[:, :, :3])

    def similarity_of(self, number: int) -> Similarity:
        """Return the similarity that one image gives."""
        is_of_image = self.image == number
        source, target = (distances[is_of_image] for distances in self.distances)
        scale = float(np.median(target / source))
        rotation = self.rotations()[number]
        centre, centre_target = (centres[number] for centres in self.centres)
        return Similarity(scale, rotation, centre_target - scale * rotation @ centre)

    def fitting(self, similarity: Similarity) -> np.ndarray:
        """Return the observations whose points agree, K bool."""
        centres = self.centres[1][self.image]
        first = similarity.apply(self.points[0]) - centres
        second = self.points[1] - centres
        distances = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
        # The chord, which keeps its precision at small angles.
        chord = np.linalg.norm(
            first / distances[0][:, None] - second / distances[1][:, None], axis=1
        )
        ratio = np.abs(np.log(distances[0] / distances[1]))
        return np.asarray((chord <= _MAX_ANGLE) & (ratio <= np.log(_MAX_DISTANCE_RATIO)))

    def is_agreeing(self, similarity: Similarity, fitting: np.ndarray) -> np.ndarray:
        """Return the images whose poses agree, and most of whose observations fit, I bool."""
        num = len(self.poses[0])
        of_image = np.bincount(self.image, minlength=num)
        that_fit = np.bincount(self.image[fitting], minlength=num)
        centres, centres_target = self.centres
        moved = np.linalg.norm(similarity.apply(centres) - centres_target, axis=1)
        return np.asarray(
            (that_fit >= np.maximum(_FEWEST_OF_IMAGE, of_image / 2))
            & (rotation_angles(self.rotations(), similarity.rotation) <= _MAX_TURN)
            & (moved <= _MAX_MOVE * self.median_distances())
        )

    def median_distances(self) -> np.ndarray:
        """Return how far each image's points are in the target, I; 0 where it has none."""
        distances = self.distances[1]
        of_images = [distances[self.image == number] for number in range(len(self.poses[0]))]
        return np.array([np.median(each) if len(each) else 0.0 for each in of_images])

    def refined(self, similarity: Similarity, fitting: np.ndarray) -> Similarity:
        """Fit a similarity to observations, and to the images that agree with one before.

        Rotations come from the poses, which have them better than points do. Scale and translation
        have the least sum of squared distances, relative to the distance from the camera.
        """
        agreeing = self.is_agreeing(similarity, fitting)
        if not agreeing.any():
            return similarity
        rotation = Rotation.from_matrix(self.rotations()[agreeing]).mean().as_matrix()
        distances = self.distances[1][fitting], self.median_distances()[agreeing]
        weights = 1 / np.concatenate(distances) ** 2
        source, target = (
            np.concatenate([points[fitting], centres[agreeing]])
            for points, centres in zip(self.points, self.centres, strict=True)
        )
        means = [np.average(points, axis=0, weights=weights) for points in (source, target)]
        turned = (source - means[0]) @ rotation.T
        products = weights @ (turned * (target - means[1]))
        scale = float(products.sum() / (weights @ turned**2).sum())
        return Similarity(scale, rotation, means[1] - scale * rotation @ means[0])
