"""Names of the localization pipelines, to the options of their data sets."""

from importlib import import_module
from pathlib import Path

from featplug.methods.packages import Entry, Packages
from featplug.utils.suggestions import unknown_name
from pipelines.datasets.protocol import LocalizeOptions


def find_options(pipeline: str) -> type[LocalizeOptions]:
    """Return the options of a pipeline, whose data set is in a file of this folder or a package.

    Raises:
        ValueError: no file or installed package has such a pipeline, or two packages have it.
    """
    for path in sorted(Path(__file__).parent.glob("*.py")):
        import_module(f"{__package__}.{path.stem}")
    own = {
        name: options
        for name, options in _pipelines(LocalizeOptions).items()
        if options.__module__.startswith(f"{__package__}.")
    }
    PACKAGES.warn_of(own, "data set")
    if pipeline in own:
        return own[pipeline]
    of_packages: dict[str, dict[str, type[LocalizeOptions]]] = {}
    for entry in PACKAGES.load(_has_options):
        of_packages.setdefault(entry.name, {})[entry.package] = entry.found
    if len(packages := of_packages.get(pipeline, {})) > 1:
        raise ValueError(
            f"{' and '.join(packages)} both have the data set {pipeline!r}; uninstall one."
        )
    firsts = {name: next(iter(found.values())) for name, found in of_packages.items()}
    known = _pipelines(LocalizeOptions) | firsts | own
    if pipeline not in known:
        raise unknown_name("localization pipeline", pipeline, sorted(known))
    return known[pipeline]


PACKAGES = Packages("featplug.datasets")
"""Data sets of installed packages: classes of options, or modules that have some."""


def _has_options(entry: Entry) -> bool:
    if isinstance(entry.found, type) and issubclass(entry.found, LocalizeOptions):
        return True
    raise ValueError(
        f"{entry.package}: the entry point {entry.name!r} of featplug.datasets is not a class "
        "derived from ModelOptions or ScanOptions; correct the package."
    )


def _pipelines(base: type[LocalizeOptions]) -> dict[str, type[LocalizeOptions]]:
    known = {}
    for options in base.__subclasses__():
        if "pipeline" in vars(options):
            known[options.pipeline] = options
        known |= _pipelines(options)
    return known
