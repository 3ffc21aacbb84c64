"""The one table of methods: names to confs and classes.

A method registers itself in its own file, next to its class::

    @register_feature(
        {"d2net": {"model": {"checkpoint": "d2net"}}},
        paper="Dusmanu et al., CVPR 2019",
        dimensions="512",
    )
    class D2NetExtractor(Extractor): ...

Everything else is made from this table: ``featplug list``, hloc's models, the contract tests.

Confs are plain dicts in hloc's form, so that the same entry serves our engines and hloc's:
``output`` names the file, ``model`` configures the method (``name`` is a file of
:mod:`featplug.extractors` or :mod:`featplug.matchers`, or ``module:Class``), ``preprocessing`` says
how images are read. A feature conf also names the ``matcher`` conf that it is matched with by
default, its ``paper`` and the ``dimensions`` of its descriptors. Every ``output`` contains
``featplug``, so that no file of ours is ever resumed as hloc's or the reverse.

A retrieval conf describes whole images: ``netvlad`` from their pixels, ``vlad`` from the local
features of any feature conf.

A conf with a ``detector`` describes the keypoints of any other: ``lisrd+mtldesc`` is ``lisrd`` at
the keypoints of ``mtldesc``.
"""

import copy
import pkgutil
import threading
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from featplug.utils.suggestions import unknown_name

if TYPE_CHECKING:
    from featplug.base import Extractor, GlobalExtractor, Matcher, PairMatcher

Conf = dict[str, Any]
"""One entry of a table, in hloc's form."""

PREPROCESSING: Conf = {
    # In colour for SIFT, too: a JPEG's own luma differs from the grey of its colours by rounding,
    # and SIFT's keypoints must be the same ones where another method describes them.
    "grayscale": False,
    "resize_max": 1600,
}
"""How images are read for features, unless a method says otherwise."""

_LAST = 1000
_Method = TypeVar("_Method")
_Class = TypeVar("_Class", bound=type)


class MethodTable(Mapping[str, Conf], Generic[_Method]):
    """The confs of one kind by name, and the class of each method.

    The files of ``package`` are imported when the table is first read, so that a command that needs
    no method does not wait for torch.

    Args:
        kind: name of an entry in messages.
        package: package whose files register themselves.
        base: name of the class in :mod:`featplug.base` that methods derive from.
        output: beginning of the confs' ``output``.
    """

    def __init__(self, kind: str, package: str, base: str, output: str) -> None:
        self.kind = kind
        self._package, self._base, self._output = package, base, output
        self._confs: dict[str, Conf] = {}
        self._places: dict[str, int] = {}
        self._classes: dict[str, type] = {}
        self._is_complete = False
        self._lock = threading.RLock()

    def register(
        self, confs: Mapping[str, Conf], order: int = _LAST, **shared: Any
    ) -> Callable[[_Class], _Class]:
        """Return the decorator of a method's class that adds its confs.

        Args:
            confs: entries of each named conf; ``model`` without ``name``.
            order: place of the confs in lists; those without one come last.
            shared: entries of all the confs.

        Raises:
            ValueError: another method has a conf of the same name.
        """

        def decorate(cls: _Class) -> _Class:
            method = self._method_name(cls)
            for name, own in confs.items():
                model = {"name": method, **own.get("model", {})}
                head = {"output": f"{self._output}-{name}", "model": model}
                conf = {**head, **shared, **own, "model": model}
                taken = self._confs.get(name, conf)["model"]["name"]
                if taken != method:
                    raise ValueError(f"{method} cannot register {name!r}: {taken} has that name.")
                self._confs[name], self._places[name] = conf, order
            self._classes[method] = cls
            return cls

        return decorate

    def _method_name(self, cls: type) -> str:
        """Return the name of the file for a method of ours, ``module:Class`` for any other."""
        package, _, file = cls.__module__.rpartition(".")
        return file if package == self._package else f"{cls.__module__}:{cls.__qualname__}"

    def _complete(self) -> dict[str, Conf]:
        """Import the files that register methods, once. Outside methods belong here."""
        with self._lock:
            if not self._is_complete:
                self._is_complete = True  # before the imports, which may read the table
                try:
                    for module in pkgutil.iter_modules(import_module(self._package).__path__):
                        import_module(f"{self._package}.{module.name}")
                except BaseException:
                    self._is_complete = False
                    raise
                self._confs = {
                    name: self._confs[name]
                    for name in sorted(self._confs, key=self._places.__getitem__)
                }
        return self._confs

    @property
    def classes(self) -> Mapping[str, type]:
        """Classes of the registered methods, by the ``name`` of their confs' ``model``."""
        self._complete()
        return self._classes

    def conf(self, name: str) -> Conf:
        """Return a copy of a named conf.

        Raises:
            ValueError: no conf has that name; lists those that exist.
        """
        if name not in self:
            raise unknown_name(self.kind, name, self)
        return copy.deepcopy(self[name])

    def build(self, model_conf: Mapping[str, Any]) -> _Method:
        """Build a method from the ``model`` entry of a conf.

        Args:
            model_conf: ``name``, a registered method or ``module:Class``, and the method's options.

        Raises:
            ValueError: no such method or option exists, or the class is not a method.
        """
        name = model_conf["name"]
        module, _, class_name = name.partition(":")
        if class_name:
            cls = getattr(import_module(module), class_name, None)
        else:
            cls = self.classes.get(name)
            if cls is None:
                raise unknown_name(self.kind, name, self._classes)
        base = getattr(import_module("featplug.base"), self._base)
        if not (isinstance(cls, type) and issubclass(cls, base)):
            raise ValueError(f"{name!r} is not a class derived from featplug.base.{self._base}.")
        return cls(model_conf).eval()

    def __getitem__(self, name: str) -> Conf:
        return self._complete()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._complete())

    def __len__(self) -> int:
        return len(self._complete())


features: "MethodTable[Extractor]" = MethodTable(
    "feature", "featplug.extractors", "Extractor", "feats-featplug"
)
"""Named feature confs."""
matchers: "MethodTable[Matcher]" = MethodTable(
    "matcher", "featplug.matchers", "Matcher", "matches-featplug"
)
"""Named matcher confs."""
pair_matchers: "MethodTable[PairMatcher]" = MethodTable(
    "pair matcher", "featplug.matchers", "PairMatcher", "matches-featplug"
)
"""Named confs of detector-free methods, which match two images without keypoints of each."""
retrieval: "MethodTable[GlobalExtractor]" = MethodTable(
    "retrieval", "featplug.extractors", "GlobalExtractor", "global-feats-featplug"
)
"""Named retrieval confs."""


def register_feature(
    confs: Mapping[str, Conf],
    *,
    paper: str,
    dimensions: str = "",
    matcher: str = "NN-mutual",
    preprocessing: Conf = PREPROCESSING,
    order: int = _LAST,
) -> Callable[[_Class], _Class]:
    """Register the confs of the extractor that this decorates.

    Args:
        confs: entries of each named conf, such as options in ``model``.
        paper: authors, venue and year.
        dimensions: size of a descriptor, in words.
        matcher: the matcher conf to use by default.
        preprocessing: how images are read; see :mod:`featplug.io.images`.
        order: place of the confs in lists.
    """
    shared = {"preprocessing": preprocessing, "matcher": matcher, "paper": paper}
    return features.register(confs, order, **shared, dimensions=dimensions)


def register_matcher(confs: Mapping[str, Conf], order: int = _LAST) -> Callable[[_Class], _Class]:
    """Register the confs of the matcher that this decorates; see :func:`register_feature`."""
    return matchers.register(confs, order)


def register_pair_matcher(
    confs: Mapping[str, Conf],
    *,
    paper: str,
    preprocessing: Conf = PREPROCESSING,
    order: int = _LAST,
) -> Callable[[_Class], _Class]:
    """Register the confs of the pair matcher that this decorates; see :func:`register_feature`."""
    return pair_matchers.register(confs, order, paper=paper, preprocessing=preprocessing)


def register_global(
    confs: Mapping[str, Conf], *, paper: str, order: int = _LAST
) -> Callable[[_Class], _Class]:
    """Register the retrieval confs of a global extractor; see :func:`register_feature`."""
    return retrieval.register(confs, order, paper=paper)


def feature_conf(name: str) -> Conf:
    """Return a copy of a named feature conf.

    Args:
        name: one of :data:`features`, or ``DESCRIBER+NAME``: the keypoints of the conf NAME, with
            its preprocessing, described by another conf that has a ``detector``.

    Raises:
        ValueError: no conf has that name; lists those that exist.
    """
    describer, plus, detector = name.partition("+")
    conf = features.conf(describer)
    if not plus:
        return conf
    if "detector" not in conf["model"]:
        able = ", ".join(key for key, value in features.items() if "detector" in value["model"])
        raise ValueError(
            f"{describer} does not describe the keypoints of another feature, so there is no "
            f"{name!r}; {able} do."
        )
    detecting = feature_conf(detector)
    conf["output"] = f"feats-featplug-{name}"
    conf["model"]["detector"] = detecting["model"]
    conf["preprocessing"] = {**detecting["preprocessing"], "grayscale": False}
    conf["paper"] = f"{conf['paper']}; keypoints: {detecting['paper']}"
    return conf


def resolve_conf(conf: str | Mapping[str, Any], **options: Any) -> Conf:
    """Return a feature conf by name or as it is, with options of its model replaced.

    Args:
        conf: a name that :func:`feature_conf` knows, or a conf dict.
        options: entries of ``model`` to set, such as ``max_keypoints``; None leaves an entry as it
            is. ``weights`` of ``official`` or ``featplug`` apply to all networks of the conf, a
            file only to the first.

    Raises:
        ValueError: no conf has that name, or ``max_keypoints`` is 0 or below -1.
    """
    given = {key: value for key, value in options.items() if value is not None}
    resolved = _with_options(feature_conf(conf) if isinstance(conf, str) else conf, given)
    max_keypoints = options.get("max_keypoints")
    if max_keypoints is not None and max_keypoints < 1 and max_keypoints != -1:
        raise ValueError(f"max_keypoints must be 1 or more, or -1 for all, not {max_keypoints}.")
    if options.get("weights") in ("official", "featplug"):
        _choose_weights(resolved["model"], options["weights"])
    return resolved


def resolve_matcher_conf(conf: str | Mapping[str, Any], **options: Any) -> Conf:
    """Return a matcher conf by name or as it is, with options of its model replaced."""
    return _with_options(matcher_conf(conf) if isinstance(conf, str) else conf, options)


def _with_options(conf: Mapping[str, Any], options: Mapping[str, Any]) -> Conf:
    return {**conf, "model": {**conf["model"], **options}}


def _choose_weights(model: Conf, origin: str) -> None:
    for key in [key for key in model if key.endswith("checkpoint")]:
        model[key.replace("checkpoint", "weights")] = origin
    if "detector" in model:
        model["detector"] = dict(model["detector"])
        _choose_weights(model["detector"], origin)


matcher_conf = matchers.conf
retrieval_conf = retrieval.conf
build_extractor = features.build
build_matcher = matchers.build
build_pair_matcher = pair_matchers.build
build_global_extractor = retrieval.build
