"""Matches and epipolar lines end where they should, in the colours that they should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from featplug.plots import draw_epipolar_lines, draw_matches, write_match_picture
from featplug.plots.match_lines import clip_line
from tests.plots.canvas import centre_of, greenish, reddish, render


def lines_of(axes: Axes) -> LineCollection:
    (lines,) = (c for c in axes.collections if isinstance(c, LineCollection))
    return lines


def test_matches_end_at_their_points_in_images_of_different_sizes() -> None:
    """One line, from a pixel of the left image to one of the right."""
    image0, image1 = np.zeros((30, 40, 3)), np.zeros((50, 20))
    points0, points1 = np.array([[5.0, 10]]), np.array([[12.0, 44]])

    def draw(axes: Axes) -> None:
        draw_matches(axes, image0, image1, points0, points1)

    picture = render(60, 50, draw)
    rows, columns = np.nonzero(greenish(picture))
    ends = [(columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)]
    # The right image begins where the left one's width ends, at x = 40.
    np.testing.assert_allclose(np.array(ends) / 10 - 0.5, [[5, 10], [52, 44]], atol=0.15)
    # Below the smaller image there is nothing but paper.
    assert (picture[320:, :330] == 255).all()


def test_outliers_are_red_and_lie_below() -> None:
    image = np.zeros((20, 20))
    points = np.array([[5.0, 5], [5, 15]])

    def draw(axes: Axes) -> None:
        draw_matches(axes, image, image, points, points, inliers=np.array([True, False]))

    picture = render(40, 20, draw)
    np.testing.assert_allclose(centre_of(greenish(picture)), [15, 5], atol=0.1)
    np.testing.assert_allclose(centre_of(reddish(picture)), [15, 15], atol=0.1)
    axes = Figure().add_subplot()
    draw(axes)
    assert [segment[0, 1] for segment in lines_of(axes).get_segments()] == [15, 5]


def test_a_picture_of_large_images_is_small_and_true(tmp_path: Path) -> None:
    large, small = np.zeros((1200, 1920), np.uint8), np.zeros((600, 960), np.uint8)
    points0, points1 = np.array([[0.0, 600], [0, 900]]), np.array([[959.0, 300], [959, 450]])
    inliers = np.array([True, False])
    write_match_picture(tmp_path / "new" / "0.jpg", large, small, points0, points1, inliers)
    picture = np.asarray(Image.open(tmp_path / "new" / "0.jpg")).astype(int)
    height, width = picture.shape[:2]
    assert width == 1440
    assert height == pytest.approx(1440 * 600 / 1920, abs=1)
    # Both lines are level from border to border, as the large image's points shrink with it.
    green = picture[..., 1] - picture[..., 0]
    for column in (width // 20, width // 2 + 5, width - width // 20):
        for at, place in ((green[:, column].argmax(), 1 / 2), (green[:, column].argmin(), 3 / 4)):
            assert at == pytest.approx(place * height, abs=8)


def test_errors_become_colours_from_green_to_red() -> None:
    axes, image, points = Figure().add_subplot(), np.zeros((20, 20)), np.zeros((3, 2))
    draw_matches(axes, image, image, points, points, errors=np.array([9.0, 0, 2.5]), max_error=5)
    red, yellow, green = lines_of(axes).get_colors()[:, :3]
    assert red[0] > 0.5 > red[1]
    assert green[1] > 0.3 > green[0]
    assert min(yellow[:2]) > 0.9


def test_lines_are_thinned_evenly_to_the_limit() -> None:
    axes, image = Figure().add_subplot(), np.zeros((20, 20))
    points = np.column_stack([np.arange(1001) / 60, np.zeros(1001)])
    draw_matches(axes, image, image, points, points, max_lines=100)
    starts = [segment[0, 0] for segment in lines_of(axes).get_segments()]
    assert 50 < len(starts) <= 100
    np.testing.assert_allclose(np.diff(starts), starts[1] - starts[0])


def test_matches_that_do_not_fit_are_refused() -> None:
    axes, image, points = Figure().add_subplot(), np.zeros((20, 20)), np.zeros((3, 2))
    with pytest.raises(ValueError, match="not both"):
        draw_matches(
            axes, image, image, points, points, inliers=np.ones(3, bool), errors=np.ones(3)
        )
    with pytest.raises(ValueError, match="3 and 2 points"):
        draw_matches(axes, image, image, points, points[:2])
    with pytest.raises(ValueError, match="3 matches"):
        draw_matches(axes, image, image, points, points, inliers=np.ones(4, bool))


@pytest.mark.parametrize("colmap_origin", [False, True])
def test_epipolar_lines_go_through_the_partners(colmap_origin: bool) -> None:
    """Two cameras see points; F by COLMAP's formulas, with its origin and with ours."""
    rng = np.random.default_rng(0)
    intrinsics = np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]])
    rotation = pycolmap.Rotation3d(np.array([0.05, -0.1, 0.02])).matrix()
    translation = np.array([0.5, 0.1, 0.05])
    world = rng.uniform([-1, -1, 4], [1, 1, 8], (12, 3))
    seen = [p @ intrinsics.T for p in (world, world @ rotation.T + translation)]
    points0, points1 = (p[:, :2] / p[:, 2:] for p in seen)
    x, y, z = translation
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    inverse = np.linalg.inv(intrinsics)
    fundamental = inverse.T @ cross @ rotation @ inverse
    if colmap_origin:
        points0, points1 = points0 - 0.5, points1 - 0.5
        shift = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
        fundamental = shift.T @ fundamental @ shift
    axes = Figure().add_subplot()
    draw_epipolar_lines(axes, np.zeros((80, 100)), fundamental, points0, points1)
    inside = ((points1 > -0.5) & (points1 < [99.5, 79.5])).all(1)
    assert inside.sum() > 6
    segments = lines_of(axes).get_segments()
    assert len(segments) >= inside.sum()
    for point in points1[inside]:
        distances = []
        for start, end in segments:
            along = (end - start) / np.linalg.norm(end - start)
            offset = point - start
            distances.append(abs(along[0] * offset[1] - along[1] * offset[0]))
        assert min(distances) < 1e-6
    ends = np.array(segments)
    assert (ends >= -0.5 - 1e-9).all()
    assert (ends <= np.array([99.5, 79.5]) + 1e-9).all()


def test_a_line_and_its_point_have_one_colour() -> None:
    fundamental = np.array([[0, 0, 0], [0, 0, -1], [0, 1, 0]])  # a rectified pair: y stays
    points = np.array([[3.0, 4], [8, 12], [5, 100]])
    axes = Figure().add_subplot()
    draw_epipolar_lines(axes, np.zeros((20, 30)), fundamental, points, points)
    lines, dots = axes.collections
    np.testing.assert_allclose([s[:, 1] for s in lines.get_segments()], [[4, 4], [12, 12]])
    np.testing.assert_array_equal(lines.get_colors(), dots.get_facecolors()[:2])
    assert len(np.unique(dots.get_facecolors(), axis=0)) == 3


@pytest.mark.parametrize(
    ("line", "ends"),
    [
        ((0, 1, -5), [[-0.5, 5], [29.5, 5]]),
        ((1, 0, -5), [[5, -0.5], [5, 19.5]]),
        ((1, 1, 0), [[-0.5, 0.5], [0.5, -0.5]]),
        ((1, 0, 3), None),
        ((0, 0, 1), None),
        ((np.nan, 1, 1), None),
    ],
)
def test_lines_are_cut_at_the_border(
    line: tuple[float, float, float], ends: list[list[float]] | None
) -> None:
    found = clip_line(np.array(line, float), 30, 20)
    if ends is None:
        assert found is None
    else:
        assert found is not None
        np.testing.assert_allclose(sorted(found.tolist()), ends, atol=1e-9)


def test_a_matrix_of_another_shape_is_refused() -> None:
    axes = Figure().add_subplot()
    with pytest.raises(ValueError, match=r"is 3×3, not \(3, 4\)"):
        draw_epipolar_lines(axes, np.zeros((9, 9)), np.zeros((3, 4)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="2 and 3 points"):
        draw_epipolar_lines(axes, np.zeros((9, 9)), np.eye(3), np.zeros((2, 2)), np.zeros((3, 2)))
