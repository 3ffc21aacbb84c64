"""Options of the benchmark, and their check."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from benchmarks.choices import FileOptions, SeedOptions, deviation
from benchmarks.measured_method import MeasuredMethod
from benchmarks.reconstruction.scenes import Scene
from featplug.base import choose_device
from featplug.methods import retrieval_conf
from pipelines.mapping_options import MappingOptions
from pipelines.run_options import require_positive, values_of
from pipelines.sfm import SfmOptions


@dataclass(frozen=True)
class ReconstructionOptions(MappingOptions, SeedOptions, FileOptions):
    """Methods to compare, and scenes to compare them on."""

    benchmark: ClassVar[str] = "reconstruction"
    default_num_seeds: ClassVar[int] = 3

    scenes: tuple[Path, ...]
    """Folders of the scenes: each has photographs in it or in its images/, and true poses next to
    them; of a scene of PhotoTourism, subsets are reconstructed (the multiview track); demo renders
    60 photographs of a town into datasets/demo, demo-SEED those of another."""
    pairs: Literal["exhaustive", "retrieval"] = "exhaustive"
    """Images to match: all pairs, or the pairs that retrieval selects in large scenes."""
    dense: bool = False
    """Also make dense points by multi-view stereo, which is slow and needs a pycolmap with CUDA."""
    num_threads: int = field(default=1, kw_only=True)
    """Number of threads of COLMAP's mapper; -1 for all cores. With one, the same matches give the
    same model each time; large scenes need more."""
    num_subsets: int | None = field(default=None, kw_only=True)
    """Of a scene of PhotoTourism: number of subsets of each number of images, the first ones; by
    default all, which are 175 models for each method and seed."""
    memory_gib: float = 1.0
    """Memory for matching, in GiB."""
    overwrite: bool = False
    """Make features, matches and models again."""

    def deviation(self, method: MeasuredMethod) -> str | None:
        """Return which options deviate from the protocol."""
        return deviation(
            max_keypoints=(self.max_keypoints, "the feature's own"),
            matcher=(method.other_matcher, "the feature's own"),
            pairs=(self.pairs, "exhaustive"),
            mapper=(self.mapper, "incremental"),
        )

    def check(self) -> None:
        """Check the request, before the long work.

        Raises:
            ValueError: something does not exist, or does not fit.
        """
        self.chosen_seeds()
        require_positive(num_matched=self.num_matched, num_subsets=self.num_subsets or 1)
        for scene in self.scenes:
            if self.scenes.count(scene) > 1:
                raise ValueError(f"The scene {scene} is given twice.")
        retrieval_conf(self.retrieval)
        choose_device(self.device)
        self.check_mapping()

    def of_method(self, scene: Scene, method: MeasuredMethod) -> SfmOptions:
        """Return the pipeline's options for one method on one scene."""
        outputs = self.output_dir / scene.name / f"{method.word}{self.variant(method)}"
        requested = values_of(MappingOptions, self) | {"matcher": method.pipeline_matcher}
        return SfmOptions(
            images=scene.images,
            extraction=self.extraction(method, self.overwrite),
            matches=method.matches,
            pairs=self.pairs,
            outputs=outputs,
            reference=scene.reference,
            memory_gib=self.memory_gib,
            **requested,
        )


def of_seed(options: SfmOptions, seed: int) -> SfmOptions:
    """Return the options that make one model in a folder of its own."""
    return replace(options, seed=seed, outputs=options.output_dir / f"seed-{seed}")
