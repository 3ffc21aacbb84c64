"""The local feature evaluation benchmark (Schönberger et al. 2017) for any features and scenes.

Each feature is taken from photographs to a COLMAP model; of each scene the models are compared by
what is registered, triangulated and, where the true poses are known, by their errors.
"""
