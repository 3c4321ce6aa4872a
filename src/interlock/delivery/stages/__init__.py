"""What a rollout goes through beside its steps."""
