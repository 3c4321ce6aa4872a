"""Live metrics whose numbers come from elsewhere: what is asked, what an answer says, and plain limits on values."""
