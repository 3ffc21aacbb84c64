"""Matching of image pairs whose geometry is known: see ``python -m benchmarks.matching --help``.

``protocols.py`` lists the rules by which papers measure matches, and ``measuring.py`` measures one
pair; :mod:`benchmarks.pairs` has the data sets, and the measurement of one method on one of them.
"""
