"""One module per framework, `contract` with what an adapter declares, and `registry`, which finds them."""
