"""What may happen in a deal, one aggregate a file. Pure: moments, ids and the folds of other aggregates come in."""
