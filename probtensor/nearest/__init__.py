"""Nearest-neighbour (Vecchia) conditioning: a Gaussian process at many entries as a sparse triangular system."""
