"""How an environment moves to a new revision, step by step, and by which live numbers."""
