"""What was admitted, looked at again before each start of a replica; no control plane is needed for it."""
