"""Singular values: decompositions, their cache on disk, what a spectrum says, and how two of them compare."""
