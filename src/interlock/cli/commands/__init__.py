"""The commands, each beside its like. A module is imported when one of its commands is called."""
