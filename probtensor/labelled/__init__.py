"""The labelled shell: the only room that knows names, units and labels (xarray and pandas)."""
