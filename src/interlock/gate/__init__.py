"""From measurements to verdicts: limits, paired tests, and the sequential canary test."""
