"""Data that no commit holds: files of this machine, ``.dvc`` pointers, objects of object stores."""

from interlock.edges.data.datasets import Datasets, Fetched
from interlock.edges.data.places import Places

__all__ = ["Datasets", "Fetched", "Places"]
