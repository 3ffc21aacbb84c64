"""Two-view geometries of hloc's triangulation with the configuration that pycolmap 4.2 requires.

hloc writes geometries of known poses with inlier matches alone. pycolmap skips those without a
configuration since 4.2, so that hloc's triangulation ends with 0 points and no error. Only hloc's
triangulation gets another ``TwoViewGeometry``; pycolmap itself stays as it is.
"""

import logging
from types import ModuleType
from typing import Any

import pycolmap

from featplug.utils.versions import needs_configurations

logger = logging.getLogger(__name__)


class ConfiguringPycolmap(ModuleType):
    """pycolmap, but for two-view geometries with matches, which are given a configuration."""

    def __init__(self) -> None:
        super().__init__("pycolmap")
        undefined = pycolmap.TwoViewGeometryConfiguration.UNDEFINED
        warned: list[str] = []

        class TwoViewGeometry(pycolmap.TwoViewGeometry):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                if self.config != undefined or len(self.inlier_matches) == 0:
                    return
                self.config = pycolmap.TwoViewGeometryConfiguration.CALIBRATED
                if not warned:
                    warned.append(
                        f"pycolmap {pycolmap.__version__} skips two-view geometries without a "
                        "configuration, which hloc's triangulation writes: featplug marks them as "
                        "CALIBRATED."
                    )
                    logger.warning("%s", warned[0])

        self.TwoViewGeometry = TwoViewGeometry

    def __getattr__(self, name: str) -> Any:
        return getattr(pycolmap, name)


def configure(triangulation: dict[str, Any]) -> None:
    """Let hloc's triangulation, given by its names, write configurations if pycolmap needs them."""
    is_ours = isinstance(triangulation.get("pycolmap"), ConfiguringPycolmap)
    if not is_ours and needs_configurations(pycolmap.__version__):
        triangulation["pycolmap"] = ConfiguringPycolmap()


def restore(triangulation: dict[str, Any]) -> None:
    """Undo :func:`configure`."""
    if isinstance(triangulation.get("pycolmap"), ConfiguringPycolmap):
        triangulation["pycolmap"] = pycolmap
