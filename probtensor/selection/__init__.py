"""Choosing a model from the data."""
