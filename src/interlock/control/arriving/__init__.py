"""What a look at a repository finds, and the runs that begin with it: branches, tags and pull requests."""
