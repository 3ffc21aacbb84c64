"""kornia's LoFTR without the download in its constructor (Sun et al., CVPR 2021)."""

import copy
from typing import Any

import kornia.feature
from kornia.feature.loftr.loftr import default_cfg


class LoFTR(kornia.feature.LoFTR):
    """kornia's LoFTR with random weights."""

    def __init__(self, new_positions: bool = False, match_threshold: float = 0.2) -> None:
        """Build the network.

        Args:
            new_positions: encode positions as the authors' later weights expect it.
            match_threshold: lowest score of a match.
        """
        config: dict[str, Any] = copy.deepcopy(default_cfg)
        config["coarse"]["temp_bug_fix"] = new_positions
        config["match_coarse"]["thr"] = match_threshold
        super().__init__(None, config)
