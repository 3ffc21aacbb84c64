"""Keypoints and maps are drawn where the image has them."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from featplug.plots import draw_heatmap, draw_image, draw_keypoints, shrink
from tests.plots.canvas import ZOOM, centre_of, reddish, render

BLOB = np.array([21, 13])
"""x, y of the one bright pixel."""


def blob_image() -> np.ndarray:
    image = np.zeros((30, 40), np.uint8)
    image[BLOB[1], BLOB[0]] = 255
    return image


def test_a_keypoint_lands_on_the_pixel_that_it_is_of() -> None:
    """Half a pixel aside, as with an origin at the corner, would be five pixels here."""
    image = blob_image()
    bright = render(40, 30, lambda axes: draw_image(axes, image)).min(axis=2) > 128
    np.testing.assert_allclose(centre_of(bright), BLOB, atol=0.06)
    dots = render(40, 30, lambda axes: draw_keypoints(axes, image, BLOB[None], colour="red"))
    np.testing.assert_allclose(centre_of(reddish(dots)), BLOB, atol=0.1)


@pytest.mark.parametrize(("degrees", "direction"), [(0, (1, 0)), (90, (0, 1)), (225, (-1, -1))])
def test_circles_have_the_scale_and_point_along_the_orientation(
    degrees: float, direction: tuple[int, int]
) -> None:
    def draw(axes: object) -> None:
        draw_keypoints(
            axes, blob_image(), BLOB[None], np.array([8.0]), np.array([degrees]), colour="red"
        )

    red = reddish(render(40, 30, draw))
    rows, columns = np.nonzero(red)
    width = (columns.max() - columns.min()) / ZOOM, (rows.max() - rows.min()) / ZOOM
    np.testing.assert_allclose(width, 16, atol=0.3)
    # The radius is all that lies inside the circle.
    y, x = np.mgrid[: red.shape[0], : red.shape[1]]
    offsets = (np.stack([x, y], -1) + 0.5) / ZOOM - 0.5 - BLOB
    inside = red & (np.linalg.norm(offsets, axis=-1) < 7)
    unit = np.array(direction) / np.linalg.norm(direction)
    np.testing.assert_allclose(offsets[inside].mean(0), 3.5 * unit, atol=0.25)


def test_points_beyond_the_border_do_not_shrink_the_image() -> None:
    axes = Figure().add_subplot()
    draw_keypoints(axes, blob_image(), np.array([[-30.0, 5], [500, 5]]))
    assert axes.get_xlim() == (-0.5, 39.5)
    assert axes.get_ylim() == (29.5, -0.5)


def test_a_coarse_map_covers_the_image() -> None:
    """Each of 3×4 cells lies over its tenth of the image's pixels."""
    values = np.zeros((3, 4))
    values[1, 2] = 1
    picture = render(
        40,
        30,
        lambda axes: draw_heatmap(axes, np.zeros((30, 40, 3)), values, cmap="Reds_r", alpha=1),
    )
    bright = picture.min(axis=2) > 200
    # Cell (1, 2) covers the pixels 20..29 and 10..19, whose centre is 24.5, 14.5.
    np.testing.assert_allclose(centre_of(bright), [24.5, 14.5], atol=0.2)


def test_values_at_keypoints_have_their_colours_and_the_strongest_is_on_top() -> None:
    axes = Figure().add_subplot()
    keypoints = np.array([[1.0, 2], [3, 4], [5, 6]])
    drawn = draw_heatmap(axes, blob_image(), np.array([0.9, 0.1, 0.5]), keypoints, limits=(0, 1))
    np.testing.assert_array_equal(drawn.get_offsets(), keypoints[[1, 2, 0]])
    np.testing.assert_array_equal(drawn.get_array(), [0.1, 0.5, 0.9])
    assert drawn.get_clim() == (0, 1)


def test_no_keypoints_are_drawn_as_none() -> None:
    none = np.zeros((0, 2))
    picture = render(40, 30, lambda axes: draw_keypoints(axes, blob_image(), none, colour="red"))
    assert not reddish(picture).any()
    empty = np.zeros(0)
    draw_keypoints(Figure().add_subplot(), blob_image(), none, empty, empty)
    draw_heatmap(Figure().add_subplot(), blob_image(), empty, none)


def test_what_does_not_fit_is_refused() -> None:
    axes = Figure().add_subplot()
    with pytest.raises(ValueError, match=r"2 keypoints but scales of the shape \(3,\)"):
        draw_keypoints(axes, None, np.zeros((2, 2)), np.ones(3))
    with pytest.raises(ValueError, match="which need scales"):
        draw_keypoints(axes, None, np.zeros((2, 2)), oris=np.ones(2))
    with pytest.raises(ValueError, match=r"its shape is \(3,\)"):
        draw_heatmap(axes, None, np.ones(3))
    with pytest.raises(ValueError, match=r"2 keypoints but values of the shape \(4, 4\)"):
        draw_heatmap(axes, None, np.ones((4, 4)), np.zeros((2, 2)))


def test_points_stay_where_they_are_in_a_smaller_image() -> None:
    image = np.zeros((600, 1900, 3), np.uint8)
    image[200:220, 1000:1020] = 255
    points = np.array([[1009.5, 209.5]])
    smaller, moved = shrink(image, points, 950)
    assert smaller.shape == (300, 950, 3)
    np.testing.assert_allclose(moved, [[504.5, 104.5]])
    rows, columns = np.nonzero(smaller[..., 0])
    np.testing.assert_allclose([columns.mean(), rows.mean()], moved[0])
    assert shrink(image, points, 1900)[0] is image
