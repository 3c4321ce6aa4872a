"""Promoted revisions are watched: monitors are moved, what follows a breach is done, and alerts are told."""
