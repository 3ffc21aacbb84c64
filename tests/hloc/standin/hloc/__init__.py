"""A stand-in of hloc: what its scripts and plug-ins rely on, and nothing else."""

import logging

__version__ = "1.5"
logger = logging.getLogger("hloc")
