"""What is judged row by row beside a metric of all rows: slices, gaps between groups, predictions without a run."""
