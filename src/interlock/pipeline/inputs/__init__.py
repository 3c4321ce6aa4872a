"""What a stage uses beside what it is told: the sources it runs, what they could import, the packages around it."""
