"""Scenes of the benchmark: folders of photographs and true poses."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.pairs.datasets import strecha
from benchmarks.reconstruction.subsets import has_subsets
from benchmarks.scene_names import DEMO_WORLDS, scene_folder
from pipelines.datasets.demo import demo_seed, make_demo_scene
from pipelines.datasets.true_poses import holds_reference_poses


@dataclass(frozen=True)
class Scene:
    """One scene of the benchmark."""

    name: str
    images: Path
    """Folder of the photographs."""
    reference: Path | None
    """Folder of the true poses; None where they are not known."""
    has_subsets: bool = False
    """Whether it is a scene of PhotoTourism, whose subsets are reconstructed."""


_STRECHAS = ("fountain", "herz-jesus", "herzjesus", "castle", "entry")
"""Parts of the names of Strecha's scenes."""


def find_scene(folder: Path, progress: bool = False) -> Scene:
    """Find the photographs and the true poses of a scene.

    ``demo`` and ``demo-SEED`` render 60 photographs of a town, a town of its own for each seed.

    Photographs are in ``images/`` of the folder, as in Strecha's, ETH3D's and COLMAP's scenes, or
    in the folder itself. True poses are a COLMAP model or ``.camera`` files in the scene's folder,
    in a folder of it (``gt_dense_cameras``, ``sparse``, ``dslr_calibration_undistorted``), or in a
    folder of that (``sparse/0``). A scene of PhotoTourism is recognised by its subsets.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: the folder has more than one set of true poses.
    """
    folder = Path(folder)
    seed = demo_seed(folder)
    if seed is not None:
        town = make_demo_scene(seed, progress)
        return Scene(f"{DEMO_WORLDS['aachen']}-{seed}", town / "images", town / "cameras")
    if not folder.is_dir():
        is_strechas = any(name in folder.name.lower() for name in _STRECHAS)
        source = f" {strecha.SOURCE}" if is_strechas else ""
        raise FileNotFoundError(f"The scene folder {folder} does not exist.{source}")
    root = scene_folder(folder)
    if has_subsets(root):
        return Scene(root.name, root / "set_100" / "images", None, has_subsets=True)
    images = root / "images" if (root / "images").is_dir() else root
    candidates = [root, *_folders(root, images)]
    candidates += [inner for outer in candidates[1:] for inner in _folders(outer, images)]
    references = [path for path in candidates if holds_reference_poses(path)]
    if len(references) > 1:
        raise ValueError(
            f"{folder} has true poses twice, in {references[0].relative_to(root)} and in "
            f"{references[1].relative_to(root)}; move the others away."
        )
    return Scene(root.name, images, references[0] if references else None)


def _folders(parent: Path, images: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir() and path != images)
