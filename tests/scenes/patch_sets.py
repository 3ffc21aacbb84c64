"""Sets of patches in the three formats, cut from sequences of images of one plane.

Patches are cut around SIFT keypoints of the first image, and in the others where its homography
maps their windows to: they correspond by construction. HPatches' geometric noise is imitated by
shifted, turned and scaled windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.io import savemat

from benchmarks.patches import hpatches
from featplug.extractors.sift import SIFT
from featplug.io.image_folder import list_images
from featplug.io.images import read_image
from featplug.keypoints.patches import gaussian_pyramid, patch_grid

NUM_IMAGES = 6
RELATIVE_RADIUS = 5.0
"""Half of a patch's width, as a multiple of the keypoint's σ: HPatches' magnification."""
NOISE = {"none": 0.0, "easy": 0.08, "hard": 0.155, "tough": 0.23}
"""Standard deviation of a window's shift, relative to its half width, of its turn in radians, and
of the logarithm of its scale. Discs overlap by 0.85, 0.72 and 0.6 in the median, the first two as
HPatches states them."""
_ROME_SIDE = 51
_PHOTOTOUR_SIDE = 64


@dataclass(frozen=True)
class Sequence:
    """Six images of a plane."""

    name: str
    pyramids: list[list[np.ndarray]]
    """Of each image."""
    homographies: list[np.ndarray]
    """3×3, from the first image to each."""
    keypoints: np.ndarray
    """N×4 of the first image: x, y, half of the patch's width in pixels, direction in degrees."""


def read_sequence(folder: Path, max_keypoints: int) -> Sequence:
    """Read a sequence in Oxford's layout, and detect keypoints whose patches lie in all images."""
    names = {Path(name).stem: name for name in list_images(folder)}
    images, homographies = [], [np.eye(3)]
    for number in range(1, NUM_IMAGES + 1):
        images.append(read_image(folder / names[f"img{number}"], grayscale=True))
        if number > 1:
            homographies.append(np.loadtxt(folder / f"H1to{number}p"))
    grey = torch.tensor(images[0])[None] / 255
    detected = {key: value.numpy() for key, value in SIFT().detect(grey).items()}
    frames = np.column_stack(
        [detected["keypoints"], RELATIVE_RADIUS * detected["scales"], detected["oris"]]
    )[np.argsort(-detected["scores"], kind="stable")].astype(np.float64)
    # Twice the same place in two orientations would be two patches of one surface.
    _, first = np.unique(frames[:, :3], axis=0, return_index=True)
    frames = frames[np.sort(first)]
    inside = np.ones(len(frames), bool)
    for image, homography in zip(images, homographies, strict=True):
        corners = _map(homography, *patch_grid(frames[:, :2], frames[:, 2] * 1.3, frames[:, 3], 2))
        limits = np.array(image.shape[::-1])[:, None, None, None] - 1
        inside &= ((corners >= 0) & (corners <= limits)).all((0, 2, 3))
    frames = _spread(frames[inside], max_keypoints)
    pyramids = [gaussian_pyramid(image.astype(np.float32)) for image in images]
    return Sequence(folder.name, pyramids, homographies, frames)


def _spread(frames: np.ndarray, num: int) -> np.ndarray:
    """Take frames, the first ones first, that cover each other by less than about half."""
    taken: list[np.ndarray] = []
    for frame in frames:
        if len(taken) == num:
            break
        others = np.array(taken).reshape(-1, 4)
        apart = np.hypot(*(others[:, :2] - frame[:2]).T)
        if np.all(apart > 0.5 * np.maximum(others[:, 2], frame[2])):
            taken.append(frame)
    return np.array(taken).reshape(-1, 4)


def cut_patches(
    sequence: Sequence, image: int, size: int, noise: float, random: np.random.Generator
) -> np.ndarray:
    """Cut the patches of all keypoints from one image, N×size×size uint8."""
    frames = sequence.keypoints
    shift, turn, scale = (random.normal(0, noise, (len(frames), n)) for n in (2, 1, 1))
    centres = frames[:, :2] + shift * frames[:, 2:3]
    radii = frames[:, 2] * np.exp(scale[:, 0])
    grid = patch_grid(centres, radii, frames[:, 3] + np.rad2deg(turn[:, 0]), size)
    x, y = _map(sequence.homographies[image], *grid)
    # Pixels of a patch may be larger than those of the image: sample where it is as coarse.
    area = np.abs(
        (x[:, -1, -1] - x[:, 0, 0]) * (y[:, 0, -1] - y[:, -1, 0])
        - (y[:, -1, -1] - y[:, 0, 0]) * (x[:, 0, -1] - x[:, -1, 0])
    )
    pixel = np.sqrt(area / 2) / (size - 1)
    pyramid = sequence.pyramids[image]
    levels = np.clip(np.rint(np.log2(pixel)), 0, len(pyramid) - 1).astype(int)
    patches = np.empty((len(frames), size, size), np.uint8)
    for row, level in enumerate(levels):
        place_x, place_y = ((axis[row] / 2**level).astype(np.float32) for axis in (x, y))
        sampled = cv2.remap(
            pyramid[level],
            place_x,
            place_y,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        patches[row] = np.clip(np.rint(sampled), 0, 255)
    return patches


def _map(homography: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    mapped = np.einsum("ij,j...->i...", homography, np.stack([x, y, np.ones_like(x)]))
    return mapped[:2] / mapped[2:]


def write_hpatches(
    folder: Path, sequences: list[Sequence], num_pairs: int, random: np.random.Generator
) -> None:
    """Write sequences of patches, and the lists of split a beside them."""
    for sequence in sequences:
        (folder / sequence.name).mkdir(parents=True, exist_ok=True)
        for kind in hpatches.KINDS:
            level = next((level for level in hpatches.LEVELS if level[0] == kind[0]), "none")
            number = 0 if kind == "ref" else int(kind[1])
            noise = NOISE["none" if kind == "ref" else level]
            patches = cut_patches(sequence, number, hpatches.SIDE, noise, random)
            column = patches.reshape(-1, hpatches.SIDE)
            cv2.imwrite(str(folder / sequence.name / f"{kind}.png"), column)
    sizes = np.array([len(sequence.keypoints) for sequence in sequences])
    names = [sequence.name for sequence in sequences]
    which = random.integers(len(sequences), size=(num_pairs, 2))
    index = random.integers(sizes[which])
    # Of one sequence, another patch.
    other = (index[:, 0] + random.integers(1, np.maximum(sizes[which[:, 0]], 2))) % sizes[
        which[:, 0]
    ]
    images = np.argsort(random.random((num_pairs, 6)), axis=1)[:, :2]
    pairs: dict[str, list[str]] = {"pos": [], "neg_inter": [], "neg_intra": []}
    for row in range(num_pairs):
        (s1, s2), (i1, i2), (t1, t2) = which[row], index[row], images[row]
        begin = f"{names[s1]},{t1},{i1}"
        pairs["pos"].append(f"{begin},{names[s1]},{t2},{i1}")
        if s1 != s2:
            pairs["neg_inter"].append(f"{begin},{names[s2]},{t2},{i2}")
        if other[row] != i1:
            pairs["neg_intra"].append(f"{begin},{names[s1]},{t2},{other[row]}")
    tasks = folder / "tasks"
    tasks.mkdir(exist_ok=True)
    for kind, lines in pairs.items():
        _write_list(tasks / f"verif_{kind}_split-a.csv", hpatches.PAIRS, lines)
    everything = [f"{s},{i}" for s, n in zip(names, sizes, strict=True) for i in range(n)]
    shuffled = [everything[i] for i in random.permutation(len(everything))]
    half = len(shuffled) // 2
    _write_list(tasks / "retr_queries_split-a.csv", hpatches.PATCHES, shuffled[:half])
    _write_list(tasks / "retr_distractors_split-a.csv", hpatches.PATCHES, shuffled[half:])


def _write_list(file: Path, columns: tuple[str, ...], lines: list[str]) -> None:
    file.write_text("\n".join([",".join(columns), *lines]) + "\n", "utf-8")


def write_phototour(
    folder: Path, sequences: list[Sequence], num_pairs: int, random: np.random.Generator
) -> None:
    """Write sheets of patches, their points, and as many pairs that match as others."""
    folder.mkdir(parents=True, exist_ok=True)
    cut = [
        np.stack(
            [
                cut_patches(sequence, image, _PHOTOTOUR_SIDE, NOISE["easy"], random)
                for image in range(NUM_IMAGES)
            ],
            axis=1,
        )
        for sequence in sequences
    ]
    patches = np.concatenate(cut).reshape(-1, _PHOTOTOUR_SIDE, _PHOTOTOUR_SIDE)
    points = np.arange(len(patches)) // NUM_IMAGES
    padding = np.zeros((-len(patches) % 256, _PHOTOTOUR_SIDE, _PHOTOTOUR_SIDE), np.uint8)
    sheets = np.concatenate([patches, padding]).reshape(-1, 16, 16, *patches.shape[1:])
    for number, sheet in enumerate(sheets.swapaxes(2, 3).reshape(-1, 1024, 1024)):
        cv2.imwrite(str(folder / f"patches{number:04d}.bmp"), sheet)
    (folder / "info.txt").write_text("".join(f"{point} 0\n" for point in points), "utf-8")
    lines = []
    for number in range(num_pairs):
        point, other = random.choice(points[-1] + 1, 2, replace=False)
        first, second = random.choice(NUM_IMAGES, 2, replace=False)
        partner = point if number % 2 == 0 else other
        lines.append(
            f"{point * NUM_IMAGES + first} {point} 0 {partner * NUM_IMAGES + second} {partner} 0\n"
        )
    file = folder / f"m50_{num_pairs}_{num_pairs}_0.txt"
    file.write_text("".join(lines), "utf-8")


def write_romepatches(folder: Path, sequences: list[Sequence], random: np.random.Generator) -> None:
    """Write two parts of patches: a query and five others of each point."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, every_other in (("train", 0), ("test", 1)):
        patches = np.stack(
            [
                np.concatenate(
                    [
                        cut_patches(sequence, image, _ROME_SIDE, NOISE["easy"], random)
                        for sequence in sequences
                    ]
                )[every_other::2]
                for image in range(NUM_IMAGES)
            ]
        )
        labels = np.arange(patches.shape[1])
        stem = folder / f"patch_retrieval_Rome_{part}"
        savemat(f"{stem}.mat", {"patches": patches.reshape(-1, _ROME_SIDE, _ROME_SIDE)})
        savemat(
            f"{stem}_labels.mat",
            {"labels_gt": labels, "labels": np.tile(labels, NUM_IMAGES - 1)},
        )


def write_patch_sets(dataset: Path, outputs: Path, max_keypoints: int, num_pairs: int) -> None:
    """Write sets of patches of all sequences: outputs/hpatches, phototour/NAME and romepatches.

    Args:
        dataset: folder of sequences in Oxford's layout, with img1 … img6 and H1to2p … H1to6p.
        outputs: gets the sets.
        max_keypoints: number of keypoints of each sequence, the strongest by score.
        num_pairs: length of the lists of pairs.
    """
    folders = sorted({file.parent for file in dataset.glob("*/H1to2p")})
    sequences = [read_sequence(folder, max_keypoints) for folder in folders]
    random = np.random.default_rng(0)
    write_hpatches(outputs / "hpatches", sequences, num_pairs, random)
    write_phototour(outputs / "phototour" / dataset.resolve().name, sequences, num_pairs, random)
    write_romepatches(outputs / "romepatches", sequences, random)
