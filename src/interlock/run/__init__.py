"""Executing a plan: a run and the runs of its stages."""
