"""HTTP/1.1 on a Unix socket: requests read within bounds, answered one by one on each connection, and a gentle end."""
