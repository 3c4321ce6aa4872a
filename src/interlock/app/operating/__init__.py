"""What running a server for a team takes: credentials, forges, the service manager's unit, lines of the log."""
