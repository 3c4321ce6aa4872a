"""What is followed as it happens, by server-sent events."""
