"""What a forge is told of a run: statuses of its commit and one comment on its pull request."""
