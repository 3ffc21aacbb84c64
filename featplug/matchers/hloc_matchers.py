"""hloc's matchers by name: ``hloc/superglue``, and of two images ``hloc/loftr``."""

from featplug.methods import register_family
from featplug.methods.method_table import Conf, matchers, pair_matchers


def _matcher_names() -> list[str]:
    from featplug.hloc.models import confs  # slow, as it imports hloc; so below

    return list(confs("matcher"))


def _matcher_conf(name: str) -> Conf:
    from featplug.hloc.wrapped_matchers import matcher_conf_of

    return matcher_conf_of(name)


def _pair_matcher_names() -> list[str]:
    from featplug.hloc.models import confs

    return list(confs("pair matcher"))


def _pair_matcher_conf(name: str) -> Conf:
    from featplug.hloc.wrapped_matchers import pair_matcher_conf_of

    return pair_matcher_conf_of(name)


register_family(matchers, "hloc", _matcher_names, _matcher_conf)
register_family(pair_matchers, "hloc", _pair_matcher_names, _pair_matcher_conf)
