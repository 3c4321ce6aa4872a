"""From measurements to verdicts: limits, paired tests, checks of data and of the served model."""
