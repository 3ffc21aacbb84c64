"""Options of pairs that were verified before, on one machine or on many."""

from dataclasses import dataclass
from pathlib import Path

from pipelines.run_options import PipelineOptions


@dataclass(frozen=True, kw_only=True)
class VerifiedPairOptions(PipelineOptions):
    """Verified pairs instead of matches."""

    verified: Path | None = None
    """Folder of pairs of a store that `featplug verify` has verified, which are not verified again;
    needs --features, the folder of the features."""

    def __post_init__(self) -> None:
        if self.verified is not None and self.matches is None:  # the inliers are matches, too
            object.__setattr__(self, "matches", self.verified)
