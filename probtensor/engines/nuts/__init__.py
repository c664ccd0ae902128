"""Sampling the posterior with the no-U-turn sampler."""
