"""A promoted revision watched in production: what is asked and answered beside the reference, and how it serves."""
