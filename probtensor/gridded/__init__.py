"""Gaussian processes with sums of separable covariances on a grid with gaps, without approximation."""
