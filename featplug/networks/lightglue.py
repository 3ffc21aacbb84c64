"""kornia's LightGlue without the download in its constructor (Lindenberger et al., ICCV 2023)."""

from typing import Any

import kornia.feature


class LightGlue(kornia.feature.LightGlue):
    """kornia's LightGlue for one kind of feature, with random weights."""

    def __init__(self, weights_for: str = "aliked", **options: Any) -> None:
        """Build the network.

        Args:
            weights_for: feature that the weights match, of ``kornia.feature.LightGlue.features``.
            options: entries of kornia's ``default_conf``, over those that the feature has.

        Raises:
            ValueError: kornia has no LightGlue for this feature.
        """
        if weights_for not in self.features:
            raise ValueError(f"is for one of {', '.join(self.features)} and not {weights_for}")
        known = {
            key: value for key, value in self.features[weights_for].items() if key != "weights"
        }
        super().__init__(None, **{**known, **options})  # type: ignore[arg-type]
