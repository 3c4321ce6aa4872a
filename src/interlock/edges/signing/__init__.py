"""Signatures over model artifacts and statements."""

from interlock.edges.signing.local import LocalSigning

__all__ = ["LocalSigning"]
