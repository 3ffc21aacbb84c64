"""What holds a model together: links of few points, and points that only two images see."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

import pycolmap
import pytest

from featplug.colmap.model_support import model_support


@pytest.fixture
def model() -> pycolmap.Reconstruction:
    """Six images, each of which sees all of 300 points."""
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 1, 1, 6
    options.num_points3D = 300
    pycolmap.set_random_seed(1)
    return pycolmap.synthesize_dataset(options)


def names(model: pycolmap.Reconstruction) -> list[str]:
    return sorted(image.name for image in model.images.values())


def remove(model: pycolmap.Reconstruction, images: Iterable[str], points: Iterable[int]) -> None:
    """Remove the observations of some points, numbered from 0, from images."""
    ids, removed = sorted(model.points3D), set(images)
    for number in points:
        track = model.points3D[ids[number]].track.elements
        for image_id, index in [(element.image_id, element.point2D_idx) for element in track]:
            if model.images[image_id].name in removed:
                model.delete_observation(image_id, index)


def test_a_model_of_many_points_of_many_images_has_no_weak_link(
    model: pycolmap.Reconstruction,
) -> None:
    support = model_support(model, {})
    assert support.weak_links == []
    assert (support.num_points, support.num_two_view_points) == (300, 0)


def test_an_image_of_few_points_is_a_weak_link(model: pycolmap.Reconstruction) -> None:
    first, *_, last = names(model)
    remove(model, [last], range(280))
    inliers = {(first, last): 18, ("not in the model.jpg", last): 500}
    inliers |= dict.fromkeys(combinations(names(model)[:5], 2), 300)
    (link,) = model_support(model, inliers).weak_links
    assert link.images == [last]
    assert (link.num_points, link.num_confirmed) == (20, 20)
    assert (link.num_pairs, link.most_inliers) == (1, 18)


def test_two_halves_with_few_common_points_are_a_weak_link(
    model: pycolmap.Reconstruction,
) -> None:
    """Every image has over a hundred points; only their sides differ."""
    images = names(model)
    remove(model, images[:3], range(130))
    remove(model, images[3:], range(170, 300))
    (link,) = model_support(model, {}).weak_links
    assert link.images in (images[:3], images[3:])
    assert (link.num_points, link.num_confirmed) == (40, 40)


def test_points_that_no_third_image_confirms_hold_nothing(model: pycolmap.Reconstruction) -> None:
    images = names(model)
    remove(model, [images[5]], range(100, 300))
    remove(model, images[1:5], range(100))
    support = model_support(model, {(images[0], images[5]): 100})
    assert support.num_two_view_points == 100
    assert support.two_view_fraction == pytest.approx(1 / 3)
    (link,) = support.weak_links
    assert link.images == [images[5]]
    assert (link.num_points, link.num_confirmed, link.most_inliers) == (100, 0, 100)


def test_a_model_of_two_images_is_of_points_that_two_images_see(
    model: pycolmap.Reconstruction,
) -> None:
    images = names(model)
    remove(model, images[2:], range(300))
    for image in list(model.images.values()):
        if image.name in images[2:]:
            model.deregister_frame(image.frame_id)
    support = model_support(model, {})
    assert support.two_view_fraction == 1
    assert [link.images for link in support.weak_links] == [images[:1]]
