"""A run beside another: what is in production, what an earlier execution saw, and the same run made again."""
