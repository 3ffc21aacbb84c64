"""hloc's extractors by name: ``hloc/superpoint_max``, and for retrieval ``hloc/openibl``."""

from featplug.methods import register_family
from featplug.methods.method_table import Conf, features, retrieval


def _feature_names() -> list[str]:
    from featplug.hloc.models import confs  # slow, as it imports hloc; so below

    return list(confs("feature"))


def _feature_conf(name: str) -> Conf:
    from featplug.hloc.wrapped_extractors import feature_conf_of

    return feature_conf_of(name)


def _retrieval_names() -> list[str]:
    from featplug.hloc.models import confs

    return list(confs("retrieval"))


def _retrieval_conf(name: str) -> Conf:
    from featplug.hloc.wrapped_extractors import retrieval_conf_of

    return retrieval_conf_of(name)


register_family(features, "hloc", _feature_names, _feature_conf)
register_family(retrieval, "hloc", _retrieval_names, _retrieval_conf)
