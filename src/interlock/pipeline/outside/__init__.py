"""What stages use that no commit holds: datasets that live elsewhere, and what is read over the network."""
