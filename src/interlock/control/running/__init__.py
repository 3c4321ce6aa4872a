"""From a commit to a registered version: intake, cache look-ups, attempts, runs, seals."""
