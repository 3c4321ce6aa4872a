"""The outside world: one folder per outside thing, the real one and its fake beside it."""
