"""Deployments played under a load: one run, tables of runs, the highest rate."""
