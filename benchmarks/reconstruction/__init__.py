"""The local feature evaluation benchmark (Schönberger et al. 2017) for any features and scenes.

COLMAP makes a model of each scene with each feature. Models of a scene are compared by their
registered images and triangulated points and, where the true poses are known, by their errors.
"""
