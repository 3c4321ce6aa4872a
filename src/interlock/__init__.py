"""Interlock: CI/CD for machine-learning models."""
