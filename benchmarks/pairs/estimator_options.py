"""Robust estimators of a pair's geometry, as options of commands and as rules of protocols."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from benchmarks.choices import SeedOptions
from featplug.metrics.two_view_estimators import ESTIMATORS, Estimator

EstimatorName = Literal["opencv-ransac", "opencv-magsac", "pycolmap", "poselib"]


@dataclass(frozen=True)
class EstimatorRules:
    """A robust estimator with its options."""

    name: str
    """Name in :data:`featplug.metrics.two_view_estimators.ESTIMATORS`."""
    threshold: float
    """Largest error of an inlier in pixels."""
    seeds: tuple[int, ...]
    longer_side: int | None = None
    """Longer side of the images whose pixels thresholds are in; by default the images' own."""

    @property
    def estimator(self) -> Estimator:
        """The estimator itself."""
        return ESTIMATORS[self.name]

    @property
    def label(self) -> str:
        """Text for tables."""
        return f"{self.name} ({self.threshold:g} px)"

    @property
    def settings(self) -> dict[str, object]:
        """Everything that the estimates depend on, as JSON values."""
        return {
            "estimator": self.name,
            "version": self.estimator.version(),
            "max_trials": self.estimator.max_trials,
            "threshold": self.threshold,
            "seeds": list(self.seeds),
            "longer_side": self.longer_side,
        }


@dataclass(frozen=True, kw_only=True)
class EstimatorOptions(SeedOptions):
    """Robust estimators to measure by."""

    default_num_seeds: ClassVar[int] = 5

    estimator: tuple[EstimatorName, ...] = ()
    """Robust estimators of the geometry, each with all seeds; poselib needs featplug[pose]."""
    threshold: float | None = None
    """Largest error of an inlier in pixels, of all estimators; by default each one's own."""
    num_seeds: int | None = None
    """Number of seeds, counted from 0, instead of --seeds; by default 5."""

    def check_estimators(self) -> None:
        """Check the request, before the long work.

        Raises:
            ValueError: the library of an estimator is not installed, or an option does not fit.
        """
        self.chosen_seeds()
        for name in self.estimator:
            ESTIMATORS[name].version()
        if self.threshold is not None and not 0 < self.threshold < float("inf"):
            raise ValueError(f"--threshold must be above 0, not {self.threshold:g}.")
