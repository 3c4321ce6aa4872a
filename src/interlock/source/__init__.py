"""What changed: commits, refs and the files a commit holds."""
