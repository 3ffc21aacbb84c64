"""Pictures for notebooks, reports and pipelines.

Functions take plain arrays, and draw into matplotlib ``Axes`` or write a file.
Points are (x, y) in pixels, integer = pixel centre, which is where matplotlib has the centre of an
image's pixel, too.
"""

from featplug.plots.camera_plan import (
    MatchedPair,
    draw_localization,
    draw_pairs,
    draw_top_view,
    ground_axes,
)
from featplug.plots.curves import draw_mma_curves
from featplug.plots.image_marks import draw_heatmap, draw_image, draw_keypoints, shrink
from featplug.plots.match_lines import (
    draw_epipolar_lines,
    draw_matches,
    matches,
    write_match_picture,
)

__all__ = [
    "MatchedPair",
    "draw_epipolar_lines",
    "draw_heatmap",
    "draw_image",
    "draw_keypoints",
    "draw_localization",
    "draw_matches",
    "draw_mma_curves",
    "draw_pairs",
    "draw_top_view",
    "ground_axes",
    "matches",
    "shrink",
    "write_match_picture",
]
