"""Matching of image pairs whose geometry is known: see ``python -m benchmarks.matching --help``.

``datasets/`` reads pairs and their truth, ``protocols.py`` lists the rules by which papers measure
them, ``measuring.py`` measures one pair, and ``evaluate.py`` one feature on one data set.
"""
