"""Cells of two feature maps that show one point, by depth and pose and by homographies."""

from __future__ import annotations

import pytest
import torch

from featplug.training.data.correspondences import (
    PosedDepth,
    cell_centres,
    find_correspondences,
    homography_correspondences,
    nearest_cells,
)


def view(depth: float = 2.0, x: float = 0.0, size: tuple[int, int] = (64, 80)) -> PosedDepth:
    """A camera x to the right of the world's origin that looks at a wall."""
    intrinsics = torch.tensor([[[40.0, 0, 40], [0, 40, 32], [0, 0, 1]]])
    cam_from_world = torch.eye(4)[None].clone()
    cam_from_world[0, 0, 3] = -x
    return PosedDepth(torch.full((1, *size), depth), intrinsics, cam_from_world, torch.zeros(1, 2))


def test_nearest_cell_of_a_centre_is_the_cell() -> None:
    centres = cell_centres((3, 5), torch.zeros(1))
    assert centres[0].tolist() == [3.5, 3.5]
    assert centres[6].tolist() == [11.5, 11.5]
    assert nearest_cells(centres, (3, 5)).tolist() == list(range(15))
    outside = torch.tensor([[-0.6, 3.0], [40.1, 3.0], [3.0, -0.6], [3.0, 24.1], [torch.nan, 3.0]])
    assert nearest_cells(outside, (3, 5)).tolist() == [-1] * 5


def test_correspondences_of_a_sideways_motion() -> None:
    # 0.8 to the right at depth 2 and 40 px of focal length: 16 px to the left, two cells.
    found = find_correspondences(view(), view(x=0.8), (8, 10), (8, 10))
    expected = torch.arange(80).view(8, 10) - 2
    expected[:, :2] = -1
    assert found.cells1[0].tolist() == expected.flatten().tolist()
    moved = found.positions0 - torch.tensor([16.0, 0.0])
    torch.testing.assert_close(found.positions1, moved, rtol=0, atol=1e-4)


def test_correspondences_between_crops() -> None:
    view0, view1 = view(), view(x=0.8)
    view0 = view0._replace(depth=view0.depth[:, 8:, 16:], crop=torch.tensor([[16.0, 8.0]]))
    found = find_correspondences(view0, view1, (7, 8), (8, 10))
    expected = torch.arange(80).view(8, 10)[1:, :8]
    assert found.cells1[0].tolist() == expected.flatten().tolist()


def test_unknown_depths_and_occlusions_are_dropped() -> None:
    view0, view1 = view(), view()
    view0.depth[0, 3, 4] = 0  # next to the centre of the first cell
    view1.depth[0, :, 8:16] = 1.9  # something before the second column
    found = find_correspondences(view0, view1, (8, 10), (8, 10))
    expected = torch.arange(80).view(8, 10)
    expected[0, 0] = -1
    expected[:, 1] = -1
    assert found.cells1[0].tolist() == expected.flatten().tolist()
    behind = view()._replace(cam_from_world=torch.diag(torch.tensor([1.0, -1, -1, 1]))[None])
    assert (find_correspondences(view(), behind, (8, 10), (8, 10)).cells1 == -1).all()
    nothing = view(depth=0.0)
    assert (find_correspondences(nothing, view(), (8, 10), (8, 10)).cells1 == -1).all()


def test_cells_under_a_homography() -> None:
    # A cell to the left; of image 1 the last of three rows of cells shows nothing.
    homography = torch.tensor([[[1.0, 0, -8], [0, 1, 0], [0, 0, 1]]])
    valid = torch.ones(1, 24, 32, dtype=torch.bool)
    valid[:, 16:] = False
    found = homography_correspondences(homography, valid, (3, 4), (3, 4))
    assert found.cells1.view(3, 4).tolist() == [[-1, 0, 1, 2], [-1, 4, 5, 6], [-1] * 4]
    assert found.positions0[0, 5].tolist() == [11.5, 11.5]
    assert found.positions1[0, 5].tolist() == [3.5, 11.5]


def test_cells_of_the_dense_map_and_beyond_the_horizon() -> None:
    # The dense map's cells are 4 pixels wide and begin at the same pixel.
    homography = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [-0.05, 0, 1]]])
    valid = torch.ones(1, 32, 32, dtype=torch.bool)
    found = homography_correspondences(homography, valid, (7, 7), (7, 7), stride=4)
    assert found.positions0[0, 1].tolist() == [7.5, 3.5]
    assert found.positions1[0, 1].tolist() == pytest.approx([12.0, 5.6])
    assert found.cells1[0, 1] == 9  # the centre at (11.5, 7.5) is nearest
    assert (found.cells1.view(7, 7)[:, 5:] == -1).all()
    assert found.positions1.view(7, 7, 2)[:, 5:].isnan().all()
