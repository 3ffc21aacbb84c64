"""Confs of methods by name, and the methods themselves.

A method registers itself in its own file, next to its class::

    @register_feature(
        {"d2net": {"model": {"checkpoint": "d2net"}}},
        paper="Dusmanu et al., CVPR 2019",
        dimensions="512",
    )
    class D2NetExtractor(Extractor): ...

Everything else is made from these tables: ``featplug list``, hloc's models, the contract tests.

Confs are plain dicts in hloc's form, so that the same entry serves our engines and hloc's:
``output`` names the file, ``model`` configures the method (``name`` is a file of
:mod:`featplug.extractors` or :mod:`featplug.matchers`, or a class: ``module:Class`` or
``file.py:Class``), ``preprocessing`` says how images are read. A feature conf also has the
``matcher`` that it is matched with by default, ``two_view_matcher`` where another one is better
for two views, its ``paper`` and the ``dimensions`` of its descriptors. Every ``output`` contains
``featplug``, so that no file of ours is ever resumed as hloc's or the reverse.

A retrieval conf describes whole images: ``netvlad`` from their pixels, ``vlad`` from the local
features of any feature conf.

Names are those of :mod:`featplug.methods.method_names`: of the tables, of the methods of installed
packages (entry points), of families such as ``colmap/sift``, and of classes. A feature conf with a
``detector`` describes the keypoints of any other: ``lisrd@mtldesc`` is ``lisrd`` at the keypoints
of ``mtldesc``.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from featplug.methods.method_names import describer_and_detector, file_word, parse_method
from featplug.methods.method_table import (
    LAST,
    PREPROCESSING,
    Conf,
    Family,
    MethodTable,
    features,
    matchers,
    pair_matchers,
    retrieval,
)
from featplug.methods.user_classes import load_class
from featplug.utils.suggestions import unknown_name

__all__ = [
    "PREPROCESSING",
    "Conf",
    "MethodTable",
    "features",
    "matchers",
    "pair_matchers",
    "retrieval",
]

_Class = TypeVar("_Class", bound=type)


def register_feature(
    confs: Mapping[str, Conf],
    *,
    paper: str,
    dimensions: str = "",
    matcher: str = "NN-mutual",
    two_view_matcher: str | None = None,
    preprocessing: Conf = PREPROCESSING,
    order: int = LAST,
) -> Callable[[_Class], _Class]:
    """Register the confs of the extractor that this decorates.

    Args:
        confs: entries of each named conf, such as options in ``model``.
        paper: authors, venue and year.
        dimensions: size of a descriptor, in words.
        matcher: the matcher to use by default, for reconstruction and localization.
        two_view_matcher: the matcher to use by default for two views; the same if None.
        preprocessing: how images are read; see :mod:`featplug.io.images`.
        order: place of the confs in lists.
    """
    shared: Conf = {"preprocessing": preprocessing, "matcher": matcher, "paper": paper}
    if two_view_matcher is not None:
        shared["two_view_matcher"] = two_view_matcher
    return features.register(confs, order, **shared, dimensions=dimensions)


def register_matcher(confs: Mapping[str, Conf], order: int = LAST) -> Callable[[_Class], _Class]:
    """Register the confs of the matcher that this decorates; see :func:`register_feature`."""
    return matchers.register(confs, order)


def register_global(
    confs: Mapping[str, Conf], *, paper: str, order: int = LAST
) -> Callable[[_Class], _Class]:
    """Register the retrieval confs of a global extractor; see :func:`register_feature`."""
    return retrieval.register(confs, order, paper=paper)


def register_pair_matcher(
    confs: Mapping[str, Conf],
    *,
    paper: str,
    preprocessing: Conf = PREPROCESSING,
    order: int = LAST,
) -> Callable[[_Class], _Class]:
    """Register the confs of the pair matcher that this decorates; see :func:`register_feature`."""
    return pair_matchers.register(confs, order, paper=paper, preprocessing=preprocessing)


def register_family(
    table: MethodTable[Any],
    prefix: str,
    names: Callable[[], Sequence[str]],
    conf: Callable[[str], Conf],
) -> None:
    """Register the methods of another program as ``PREFIX/NAME``.

    Args:
        table: one of the tables.
        prefix: beginning of the names.
        names: lists the names that this machine has, without the prefix.
        conf: returns the conf of a name, without the prefix; ``output`` may be left out. It raises
            ValueError where the program or the name is missing.
    """
    table.families[prefix] = Family(names, conf)


def feature_conf(name: str) -> Conf:
    """Return a copy of a feature conf.

    Args:
        name: a name of :mod:`featplug.methods.method_names`. ``A@B`` has the keypoints of B, with
            its preprocessing, described by A; ``A+M`` is A with the matcher M.

    Raises:
        FileNotFoundError: the file of a class does not exist.
        ValueError: no such method exists; lists those that do.
    """
    method = parse_method(name)
    conf = _described_conf(method.feature)
    if method.matcher is not None:
        conf["matcher"] = method.matcher
        conf.pop("two_view_matcher", None)
    return conf


def _described_conf(name: str) -> Conf:
    """Return the conf of ``A`` or ``A@B``."""
    describer, detector = describer_and_detector(name)
    conf = _conf(features, describer)
    if detector is None:
        return conf
    if "detector" not in conf["model"]:
        able = ", ".join(key for key, value in features.items() if "detector" in value["model"])
        raise ValueError(
            f"{describer} does not describe the keypoints of another feature, so there is no "
            f"{name!r}; {able} do."
        )
    detecting = _described_conf(detector)
    conf |= {"name": name, "output": f"{features.output}-{file_word(name)}"}
    conf["model"]["detector"] = detecting["model"]
    conf["preprocessing"] = {**detecting["preprocessing"], "grayscale": False}
    conf["paper"] = f"{conf['paper']}; keypoints: {detecting['paper']}"
    return conf


def matcher_conf(name: str) -> Conf:
    """Return a copy of a matcher conf; errors are those of :func:`feature_conf`."""
    if is_pair_matcher(name):
        raise ValueError(
            f"{name} matches two images, without features; give it as the feature, alone."
        )
    return _conf(matchers, name)


def pair_matcher_conf(name: str) -> Conf:
    """Return a copy of a conf of a matcher of two images; errors are those of the others."""
    return _conf(pair_matchers, name)


def retrieval_conf(name: str) -> Conf:
    """Return a copy of a retrieval conf; errors are those of :func:`feature_conf`."""
    return _conf(retrieval, name)


def is_pair_matcher(method: str | Mapping[str, Any]) -> bool:
    """Return whether a name, which may not exist, or a conf is of a matcher of two images."""
    name = method if isinstance(method, str) else _method_of(method)
    if describer_and_detector(name)[1] is not None:
        return False
    if ":" in name:
        if parse_method(name).matcher is not None:
            return False
        cls = load_class(name, *features.bases, *matchers.bases)
        return issubclass(cls, pair_matchers.base)
    if not isinstance(method, str):
        return name in pair_matchers.classes
    if name in pair_matchers:
        return True
    prefix, _, rest = name.partition("/")
    owners = [table for table in (features, matchers, pair_matchers) if prefix in table.families]
    if not rest or pair_matchers not in owners:
        return False
    return owners == [pair_matchers] or _owner(owners, prefix, rest) is pair_matchers


def _owner(tables: Sequence[MethodTable[Any]], prefix: str, name: str) -> MethodTable[Any] | None:
    """Return the first of the tables whose family has a name; None if that cannot be known."""
    try:
        return next((table for table in tables if name in table.families[prefix].names()), None)
    except (ImportError, ValueError):  # said where the method is used
        return None


def matcher_of(conf: Mapping[str, Any], two_views: bool = False) -> str:
    """Return the matcher that a feature conf uses by default, for many views or for two."""
    return (conf.get("two_view_matcher") if two_views else None) or conf["matcher"]


def matcher_conf_for(feature: Mapping[str, Any] | None, matcher: str | Mapping[str, Any]) -> Conf:
    """Return a copy of the conf of a matcher for the features of a feature conf.

    Args:
        feature: the feature conf, such as of :func:`conf_of_features`; None if it is not known.
        matcher: name of the matcher, or its conf.

    Raises:
        ValueError: the matcher is not for these features; see
            :meth:`featplug.base.Matcher.model_for`. Others are those of :func:`feature_conf`.
    """
    conf = copy.deepcopy(resolve_matcher_conf(matcher))
    if feature:
        cls = matchers.method_class(conf["model"]["name"])
        conf["model"] = cls.model_for(conf["model"], feature)
    return conf


def name_of(feature: Mapping[str, Any]) -> str:
    """Return the name of a feature conf for messages."""
    return features.name_of(feature)


def conf_of_features(model: Mapping[str, Any] | None) -> Conf | None:
    """Return the feature conf that features were made with, but for changed options.

    Args:
        model: ``model`` in the provenance of a feature file; None if it has none.

    Returns:
        The conf; None where the program that the method belongs to is not installed.
    """
    if not model:
        return None
    confs = [conf for conf in features.values() if conf["model"]["name"] == model["name"]]
    for prefix, family in features.families.items():
        if prefix in model["name"].replace(":", ".").split("."):
            with suppress(ImportError, ValueError):  # the program is not installed
                of_family = [_conf(features, f"{prefix}/{name}") for name in family.names()]
                confs += [conf for conf in of_family if conf["model"]["name"] == model["name"]]
    equal = [sum(model.get(key) == value for key, value in c["model"].items()) for c in confs]
    return copy.deepcopy(confs[equal.index(max(equal))]) if confs else None


def _conf(table: MethodTable[Any], name: str) -> Conf:
    """Return a copy of the conf of one name, without operators."""
    prefix, _, rest = name.partition("/")
    if name in table:
        return copy.deepcopy(table[name])
    if ".py:" not in name and prefix in table.families:
        conf = table.families[prefix].conf(rest)
    elif ":" in name or name.endswith(".py"):
        conf = table.class_conf(load_class(name, table.base))
    else:
        raise _unknown(table, name)
    return {"name": name, "output": f"{table.output}-{file_word(name)}", **copy.deepcopy(conf)}


def _unknown(table: MethodTable[Any], name: str) -> ValueError:
    """Return the error for a name that no table has, with those that exist."""
    if table is features and is_pair_matcher(name):
        return ValueError(
            f"{name} matches two images and has no features of one; use it by `featplug match`, or "
            "as --feature of a pipeline."
        )
    option = {features.kind: "--features", matchers.kind: "--matches"}.get(table.kind)
    if option and name.endswith((".h5", ".hdf5")):
        return ValueError(f"{name} is a file, not the name of a {table.kind}; use {option} {name}.")
    hints = []
    for prefix, family in table.families.items():
        try:
            is_known = name in family.names()
        except (ImportError, ValueError):  # the program is not installed
            hints.append(f" `featplug list` shows {prefix}'s where {prefix} is installed.")
        else:
            if is_known:
                return ValueError(f"There is no {table.kind} {name!r}; use {prefix}/{name}.")
    error = unknown_name(table.kind, name, [*table, *(f"{p}/NAME" for p in table.families)])
    return ValueError(f"{error}{''.join(hints)}")


def resolve_conf(conf: str | Mapping[str, Any], **options: Any) -> Conf:
    """Return a feature conf by name or by its dict, with options of its model replaced.

    Args:
        conf: a name that :func:`feature_conf` knows, or a conf dict, of which ``model`` suffices:
            other entries are by default those of the method's own conf.
        options: entries of ``model`` to set, such as ``max_keypoints``; None leaves an entry as it
            is. ``weights`` of ``official`` or ``featplug`` apply to all networks of the conf, a
            file only to the first.

    Raises:
        ValueError: no conf has that name, the dict names no method, or ``max_keypoints`` is 0 or
            below -1.
    """
    given = {key: value for key, value in options.items() if value is not None}
    resolved = _with_options(
        feature_conf(conf) if isinstance(conf, str) else _completed(features, conf), given
    )
    max_keypoints = options.get("max_keypoints")
    if max_keypoints is not None and max_keypoints < 1 and max_keypoints != -1:
        raise ValueError(f"max_keypoints must be 1 or more, or -1 for all, not {max_keypoints}.")
    if options.get("weights") in ("official", "featplug"):
        _choose_weights(resolved["model"], options["weights"])
    return resolved


def resolve_matcher_conf(conf: str | Mapping[str, Any], **options: Any) -> Conf:
    """Return a matcher conf by name or by its dict; see :func:`resolve_conf`."""
    named = matcher_conf(conf) if isinstance(conf, str) else _completed(matchers, conf)
    return _with_options(named, options)


def resolve_pair_matcher_conf(conf: str | Mapping[str, Any], **options: Any) -> Conf:
    """Return a conf of a matcher of two images by name or by its dict; see :func:`resolve_conf`."""
    named = pair_matcher_conf(conf) if isinstance(conf, str) else _completed(pair_matchers, conf)
    return _with_options(named, options)


def _completed(table: MethodTable[Any], conf: Mapping[str, Any]) -> Conf:
    """Return a conf dict with what it lacks of its method's own conf."""
    method = _method_of(conf)
    own = conf_of_features(conf["model"]) if table is features else None
    if own is None:
        made = table.class_conf(table.method_class(method))
        own = {"output": f"{table.output}-{file_word(method)}", **made}
    if "matcher" in conf:
        own.pop("two_view_matcher", None)
    return {**own, **conf}


def _method_of(conf: Mapping[str, Any]) -> str:
    """Return the name of the method of a conf dict; raise ValueError where it has none."""
    model = conf.get("model")
    name = model.get("name") if isinstance(model, Mapping) else None
    if not isinstance(name, str):
        raise ValueError(
            f"The conf {dict(conf)} names no method; write {{'model': {{'name': 'sift'}}}}."
        )
    return name


def _with_options(conf: Mapping[str, Any], options: Mapping[str, Any]) -> Conf:
    return {**conf, "model": {**conf["model"], **options}}


def _choose_weights(model: Conf, origin: str) -> None:
    for key in [key for key in model if key.endswith("checkpoint")]:
        model[key.replace("checkpoint", "weights")] = origin
    if "detector" in model:
        model["detector"] = dict(model["detector"])
        _choose_weights(model["detector"], origin)


build_extractor = features.build
build_matcher = matchers.build
build_pair_matcher = pair_matchers.build
build_global_extractor = retrieval.build
