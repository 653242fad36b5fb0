"""Persistent homology and topological priors: NumPy only, no torch, no files."""
