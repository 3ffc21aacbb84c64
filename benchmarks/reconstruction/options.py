"""Options of the benchmark, and their check."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from benchmarks.choices import KeypointOptions, SeedOptions, deviation
from benchmarks.reconstruction.scenes import Scene
from featplug.base import choose_device
from featplug.methods import matcher_conf, retrieval_conf
from pipelines.run import require_positive, values_of
from pipelines.sfm import MappingOptions, SfmOptions


@dataclass(frozen=True)
class ReconstructionOptions(MappingOptions, SeedOptions, KeypointOptions):
    """Features to compare, and scenes to compare them on."""

    benchmark: ClassVar[str] = "reconstruction"
    default_num_seeds: ClassVar[int] = 3

    scenes: tuple[Path, ...]
    """Folders of the scenes: each has photographs in it or in its images/, and true poses next to
    them; demo renders 60 photographs of a town into datasets/demo, demo-SEED those of another."""
    pairs: Literal["exhaustive", "retrieval"] = "exhaustive"
    """Images to match: all pairs, or the pairs that retrieval selects in large scenes."""
    dense: bool = False
    """Also make dense points by multi-view stereo, which is slow and needs a pycolmap with CUDA."""
    memory_gib: float = 1.0
    """Memory for matching, in GiB."""
    overwrite: bool = False
    """Make features, matches and models again."""

    def deviation(self) -> str | None:
        """Return which options deviate from the protocol."""
        return deviation(
            max_keypoints=(self.max_keypoints, "the feature's own"),
            matcher=(self.matcher, "the feature's own"),
            pairs=(self.pairs, "exhaustive"),
            mapper=(self.mapper, "incremental"),
        )

    def check(self) -> None:
        """Check the request, before the long work.

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
        self.check_mapping()

    def of_feature(self, scene: Scene, feature: str) -> SfmOptions:
        """Return the pipeline's options for one feature on one scene."""
        name = feature if self.max_keypoints is None else f"{feature}-n{self.max_keypoints}"
        return SfmOptions(
            images=scene.images,
            extraction=self.extraction(feature, self.overwrite),
            pairs=self.pairs,
            outputs=self.output_dir / scene.name / name,
            reference=scene.reference,
            memory_gib=self.memory_gib,
            **values_of(MappingOptions, self),
        )


def of_seed(options: SfmOptions, seed: int) -> SfmOptions:
    """Return the options that make one model in a folder of its own."""
    return replace(options, seed=seed, outputs=options.output_dir / f"seed-{seed}")
