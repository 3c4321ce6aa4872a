"""Which stage goes first, and what that needs: the queue, groups of runs, what stages cost, estimates."""
