"""Dagster wiring, one folder for each stage; what decides is in ``stages`` and ``core``."""
