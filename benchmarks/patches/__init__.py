"""Descriptors of given patches: UBC PhotoTour, HPatches' patches and RomePatches."""
