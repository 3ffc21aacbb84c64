"""featplug's features and matchers in hloc's own scripts, without a fork.

``featplug.register()`` adds the confs to hloc's tables; ``featplug hloc MODULE`` does so for a
command. hloc is imported only when one of them is called.
"""

from featplug.hloc.registration import Registration, register, unregister

__all__ = ["Registration", "register", "unregister"]
