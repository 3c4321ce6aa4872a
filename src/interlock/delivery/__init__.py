"""Bringing a model version into environments: revisions, releases, rollouts."""
