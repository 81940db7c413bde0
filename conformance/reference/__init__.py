"""The mathematics: exact answers and gradients, derived error bounds, and conversions between kinds of input."""
