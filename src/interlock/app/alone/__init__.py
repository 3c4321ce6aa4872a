"""What can be done with a model that no run has made."""
