"""How often one test set may be asked: the rows that conditions need, the uses that are counted, the scores shown."""
