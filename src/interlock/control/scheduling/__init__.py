"""Which stage goes when: what they cost before, the room on the machine, and what a run will take."""
