"""Calls in this process or in workers, the environments made for them, and the signals that end a run."""
