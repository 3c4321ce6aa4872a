"""What several edges share: atomic files, process trees, Unix sockets, the clock."""
