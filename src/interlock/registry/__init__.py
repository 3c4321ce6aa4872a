"""Registered model versions and the one rule that admits them to an environment."""
