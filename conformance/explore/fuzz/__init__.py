"""Cases that nobody wrote: drawn at random, put to every function, shrunk where one is wrong, and written down."""
