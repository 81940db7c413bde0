"""From an outcome to a verdict and from an item to a row; traits of a problem, selection, coverage of options."""
