"""What a rollout is decided from: what was known before it, what a look brings, and the same decided again."""
