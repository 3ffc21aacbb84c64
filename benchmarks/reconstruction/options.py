"""What the benchmark is asked for, and whether that can be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from benchmarks.choices import asked_for, choose_seeds
from benchmarks.reconstruction.scenes import Scene
from featplug.base import choose_device
from featplug.colmap.cameras import CameraOptions, check_camera
from featplug.colmap.mapping import require_global_mapping
from featplug.methods import matcher_conf, retrieval_conf
from pipelines.run import FeatureOptions, require_positive
from pipelines.sfm import SfmOptions

DEFAULT_SEEDS = 3


@dataclass(frozen=True)
class ReconstructionOptions:
    """Which features are compared on which scenes, and how."""

    scenes: tuple[Path, ...]
    """Folders of a scene each: photographs in it or in its images/, true poses beside them."""
    feature: tuple[str, ...] = ("sift",)
    """Names of features."""
    outputs: Path = Path("outputs/reconstruction")
    """Folder for everything."""
    seeds: tuple[int, ...] = ()
    """Of verification and mapping; a model is made with each."""
    num_seeds: int | None = None
    """In place of --seeds: that many, from 0; 3 by default."""
    pairs: Literal["exhaustive", "retrieval"] = "exhaustive"
    """Which images are matched; retrieval where there are too many for all pairs."""
    retrieval: str = "vlad"
    """Name of the global descriptor for --pairs retrieval: vlad or netvlad."""
    num_matched: int = 20
    """How many images each is paired with by retrieval."""
    matcher: str | None = None
    """Name of the matcher of all features; by default each feature's own."""
    max_keypoints: int | None = None
    """Keep that many of each image, the strongest by score."""
    weights: tuple[tuple[str, str], ...] = ()
    """Names of features and the weights of each, official, featplug or a file, such as
    --weights doap own.safetensors."""
    mapper: Literal["incremental", "global"] = "incremental"
    """COLMAP's incremental mapper, or its global one (pycolmap 4.0 or newer)."""
    camera: CameraOptions = field(default_factory=CameraOptions)
    """How COLMAP cameras are made."""
    dense: bool = False
    """Also make dense points by multi-view stereo; needs a pycolmap with CUDA, and takes long."""
    device: str | None = None
    """Such as cpu or cuda:1; the best one by default."""
    memory_gib: float = 1.0
    """Memory for matching."""
    overwrite: bool = False
    """Make features, matches and models anew."""

    def chosen_seeds(self) -> tuple[int, ...]:
        """Give the seeds asked for."""
        return choose_seeds(self.seeds, self.num_seeds, DEFAULT_SEEDS)

    def deviation(self) -> str | None:
        """Say what is asked for in place of what the protocol has."""
        return asked_for(
            max_keypoints=self.max_keypoints,
            matcher=self.matcher,
            pairs=None if self.pairs == "exhaustive" else self.pairs,
            mapper=None if self.mapper == "incremental" else self.mapper,
        )

    def check(self) -> None:
        """Look at whatever is wrong for all features and scenes, before the long work.

        Raises:
            ValueError: something does not exist, or does not fit.
        """
        self.chosen_seeds()
        require_positive(num_matched=self.num_matched)
        for scene in self.scenes:
            if self.scenes.count(scene) > 1:
                raise ValueError(f"The scene {scene} is given twice.")
        if self.matcher is not None:
            matcher_conf(self.matcher)
        retrieval_conf(self.retrieval)
        choose_device(self.device)
        check_camera(self.camera)
        if self.mapper == "global":
            require_global_mapping()

    def of_feature(self, scene: Scene, feature: str) -> SfmOptions:
        """Give the options that take one feature from a scene's photographs to matches.

        The folder's name has what may differ between runs that are to be kept apart.
        """
        name = feature if self.max_keypoints is None else f"{feature}-n{self.max_keypoints}"
        extraction = FeatureOptions(
            feature=feature,
            max_keypoints=self.max_keypoints,
            weights=dict(self.weights).get(feature),
            device=self.device,
            overwrite=self.overwrite,
        )
        return SfmOptions(
            images=scene.images,
            extraction=extraction,
            matcher=self.matcher,
            pairs=self.pairs,
            retrieval=self.retrieval,
            num_matched=self.num_matched,
            mapper=self.mapper,
            camera=self.camera,
            outputs=self.outputs / scene.name / name,
            reference=scene.reference,
            memory_gib=self.memory_gib,
        )


def of_seed(options: SfmOptions, seed: int) -> SfmOptions:
    """Give the options that make one model in a folder of its own."""
    return replace(options, seed=seed, outputs=options.output_dir / f"seed-{seed}")


def require_different_names(scenes: Sequence[Scene]) -> None:
    """Refuse scenes that tables and folders could not tell apart.

    Raises:
        ValueError: two have one name.
    """
    known: dict[str, Scene] = {}
    for scene in scenes:
        other = known.setdefault(scene.name, scene)
        if other is not scene:
            raise ValueError(
                f"The scenes {other.images} and {scene.images} are both named {scene.name}; rename "
                "one of the folders."
            )
