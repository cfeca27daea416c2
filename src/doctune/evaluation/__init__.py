"""What a model is worth: metrics of one set, comparisons of runs, the report."""
