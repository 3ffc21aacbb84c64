"""Local features for COLMAP and hloc: extract, match, reconstruct, localise and compare."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from featplug.utils import moved

if TYPE_CHECKING:
    from featplug import plots
    from featplug.api import (
        Feature,
        FeatureMatcher,
        Features,
        ImageMatcher,
        Matches,
        list_features,
        list_matchers,
        load,
        load_matcher,
        match_images,
    )
    from featplug.api.localizer import Localization, Localizer
    from featplug.api.pretrained import from_pretrained
    from featplug.hloc import register, unregister

__version__ = "0.2.0"
__all__ = [
    "Feature",
    "FeatureMatcher",
    "Features",
    "ImageMatcher",
    "Localization",
    "Localizer",
    "Matches",
    "__version__",
    "from_pretrained",
    "list_features",
    "list_matchers",
    "load",
    "load_matcher",
    "match_images",
    "plots",
    "register",
    "unregister",
]

_MODULES = {
    "from_pretrained": "api.pretrained",
    "Localization": "api.localizer",
    "Localizer": "api.localizer",
    "register": "hloc",
    "unregister": "hloc",
}
"""Name to the module that it is imported from, where that is not featplug.api."""


def __getattr__(name: str) -> Any:
    """Import what is asked for only now: ``import featplug`` does not wait for torch."""
    if name == "plots":
        return import_module("featplug.plots")
    if name in __all__:
        module = _MODULES.get(name, "api")
        return getattr(import_module(f"featplug.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


moved.install()
