"""Live evidence -> Verdict: whether a candidate may go on, valid however often one looks."""
