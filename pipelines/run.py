"""The stages that the pipelines share: features, pairs by retrieval and matches."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from featplug.api import Feature, FeatureMatcher
from featplug.io.pair_lists import Pair, unique_pairs, write_pairs
from featplug.io.parts.feature_parts import open_features
from featplug.io.results import StageRecorder
from featplug.methods import (
    Conf,
    conf_of_features,
    feature_conf,
    retrieval,
    retrieval_conf,
)
from featplug.stages.extract import extract_features
from featplug.stages.match import match_features
from featplug.stages.retrieval_pairs import pairs_from_retrieval
from featplug.stages.retrieve import RetrievalSummary, global_descriptors
from featplug.stages.shared_options import GuidedOptions, NetworkOptions
from featplug.weights.loading import require_weights
from pipelines.detector_free import DetectorFree
from pipelines.given_files import Features, check_matches_of, given_features
from pipelines.run_options import FeatureOptions, PipelineOptions, values_of


def _conf_of(extraction: FeatureOptions) -> Conf | None:
    """Return the conf of the feature that a given file has, if it is named or recorded."""
    if extraction.feature is not None:
        return feature_conf(extraction.method.feature)
    with open_features(extraction.features or Path()) as reader:
        return conf_of_features(reader.model)


class Stages:
    """The stages that pipelines share, what they cost, and what they took from an earlier run.

    Networks are loaded here, before anything is written.

    Raises:
        FileNotFoundError: weights are missing.
        ValueError: see :meth:`PipelineOptions.check`; or weights are damaged.
    """

    def __init__(self, options: PipelineOptions, progress: bool) -> None:
        self.options = options
        self.matcher = options.check()
        extraction = options.extraction
        self.feature: Feature | None = None
        self.feature_matcher: FeatureMatcher | None = None
        self.detector_free: DetectorFree | None = None
        """Work of a method without keypoints, instead of that of a feature and a matcher."""
        if options.pair_matcher is not None:
            self.detector_free = DetectorFree(
                self.matcher, options.match_images_options, options.output_dir, progress
            )
        elif extraction.features is None:
            self.feature = Feature(
                extraction.conf(extraction.method.feature),
                device=extraction.device,
                precision=extraction.precision,
                orientation=extraction.orientation,
            )
        if options.matches is None and self.detector_free is None:
            feature = self.feature.conf if self.feature else _conf_of(extraction)
            conf = options.matcher_conf(self.matcher, feature)
            self.feature_matcher = FeatureMatcher(
                conf, device=extraction.device, strongest=options.strongest
            )
        self.progress = progress
        self.recorder = StageRecorder()
        self.reused: dict[str, int] = {}
        """Stage to the number of images or pairs that an earlier run had made."""
        self.retrieval: RetrievalSummary | None = None
        """Outcome of retrieval, where it selected pairs."""

    def extract(self, image_dir: Path, names: Sequence[str], masks: Path | None = None) -> Features:
        """Extract the features of images, or use the given feature file.

        ``masks`` is a folder of masks, instead of that of the options.

        Raises:
            FileNotFoundError: a file does not exist.
            ValueError: a file does not fit, or no image has features.
        """
        if self.detector_free is not None:
            self.reused["extract"] = 0
            self.detector_free.use_masks(masks or self.options.extraction.masks)
            return self.detector_free.readable_images(image_dir, names)
        features = self._features(image_dir, names, masks)
        if self.options.matches is not None:
            check_matches_of(self.options.matches, features.path)
        return features

    def _features(self, image_dir: Path, names: Sequence[str], masks: Path | None) -> Features:
        extraction = self.options.extraction
        if self.feature is None:
            self.reused["extract"] = 0
            return given_features(Path(extraction.features or ""), image_dir, names)
        summary = extract_features(
            self.feature,
            image_dir,
            self.options.output_dir,
            image_list=names,
            progress=self.progress,
            **values_of(NetworkOptions, extraction) | ({"masks": masks} if masks else {}),
        )
        self.reused["extract"] = summary.num_present
        return Features(
            image_dir, summary.feature_path, summary.names, summary.skipped, summary.weights
        )

    def require_retrieval(self) -> None:
        """Raise an error, such as FileNotFoundError, if something is missing that it needs."""
        model = retrieval_conf(self.options.retrieval)["model"]
        # VLAD, which sums features, is no class of this kind.
        getattr(retrieval.classes.get(model["name"]), "require", require_weights)(model)

    def retrieve(
        self,
        features: Features,
        num_matched: int,
        queries: Sequence[str],
        database: Sequence[str],
        allowed: Callable[[str], Collection[str] | None] = lambda _: None,
    ) -> list[Pair]:
        """Pair each query with other database images that look most like it.

        ``allowed`` returns the images that a query may be paired with, or None for all.
        """
        extraction, local = self.options.extraction, features.path
        sums_features = retrieval_conf(self.options.retrieval)["model"]["name"] == "vlad"
        if self.detector_free is not None and sums_features:
            local = self.detector_free.features_for_retrieval(features)
        self.retrieval = described = global_descriptors(
            self.options.retrieval,
            features.image_dir,
            self.options.output_dir,
            list(dict.fromkeys([*queries, *database])),
            overwrite=extraction.overwrite,
            orientation=extraction.orientation,
            max_megapixels=extraction.max_megapixels,
            features=local,
            database=database,
            database_may_change=True,  # one more image is no reason to describe all again
            device=extraction.device,
            progress=self.progress,
        )
        usable = set(described.names)
        return pairs_from_retrieval(
            described.descriptor_path,
            num_matched,
            [name for name in queries if name in usable],
            [name for name in database if name in usable],
            allowed=allowed,
        )

    def match_together(self, features: Features, pairs: Sequence[Pair]) -> None:
        """Match all pairs of a run at once where keypoints are gathered from all of them."""
        if self.detector_free is not None:
            path = self.options.output_dir / "pairs-all.txt"
            write_pairs(path, unique_pairs(pairs))
            self._match_images(self.detector_free, "match_images", features, path)

    def _match_images(
        self, method: DetectorFree, stage: str, features: Features, pairs_path: Path
    ) -> Path:
        with self.recorder.stage(stage):
            matched = method.match(features, pairs_path)
        self.reused[stage] = matched.num_present
        return matched.match_path

    def match(self, stage: str, features: Features, pairs_path: Path) -> Path:
        """Match the pairs of a list, or use the given match file; return the file."""
        options = self.options
        self.reused[stage] = 0
        if self.detector_free is not None:
            done = self.detector_free.match_path
            return done or self._match_images(self.detector_free, stage, features, pairs_path)
        if self.feature_matcher is None:
            return Path(options.matches or "")
        with self.recorder.stage(stage):
            matched = match_features(
                self.feature_matcher,
                pairs_path,
                features.path,
                options.output_dir,
                overwrite=options.extraction.overwrite,
                device=options.extraction.device,
                image_dir=features.image_dir,
                memory_gib=options.memory_gib,
                progress=self.progress,
                **values_of(GuidedOptions, options),
            )
        self.reused[stage] = matched.num_present
        return matched.match_path
