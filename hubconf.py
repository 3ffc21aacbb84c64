"""Entry points of torch.hub: features and matchers, made from featplug's tables.

::

    feature = torch.hub.load("featplug/featplug", "featplug", "mtldesc", max_keypoints=2048)
    matcher = torch.hub.load("featplug/featplug", "featplug_matcher", feature=feature)

Every feature is also an entry point of its own name, such as ``sift``.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import featplug as _featplug

dependencies = [
    "PIL",
    "cv2",
    "h5py",
    "kornia",
    "numpy",
    "platformdirs",
    "portalocker",
    "pycolmap",
    "safetensors",
    "scipy",
    "torch",
]


def featplug(name: str, **options: Any) -> "_featplug.Feature":
    """Return a feature by any name that the commands take; see ``featplug.load``."""
    from featplug import load  # here, so that torch.hub says first which dependencies are missing

    return load(name, **options)


def featplug_matcher(
    name: str | None = None, feature: Any = None, **options: Any
) -> "_featplug.FeatureMatcher | _featplug.ImageMatcher":
    """Return a matcher by name, or that of a feature; see ``featplug.load_matcher``."""
    from featplug import load_matcher

    return load_matcher(name, feature, **options)


def _features() -> dict[str, Any]:
    from featplug.methods import features

    return dict(features)


def __dir__() -> list[str]:
    return ["dependencies", "featplug", "featplug_matcher", *_features()]


def __getattr__(name: str) -> Any:
    features = {} if name.startswith("_") else _features()
    if name not in features:
        raise AttributeError(f"hubconf has no {name!r}; it has {', '.join(__dir__())}")
    entry = partial(featplug, name)
    entry.__doc__ = f"Return the feature {name}: {features[name]['paper']}."
    return entry
