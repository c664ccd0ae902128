"""Functions of several variables, sampled where one likes, as a core times Chebyshev series of each variable."""
