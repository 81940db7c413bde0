"""The mathematics: certified answers and gradients, derived error bounds, conversions between kinds of input."""
