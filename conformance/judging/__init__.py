"""Judge outcomes: outcome to verdict, item to row; traits of a problem, selection of items, coverage of options."""
