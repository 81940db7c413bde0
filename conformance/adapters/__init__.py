"""One module per framework; `contract` defines the interface of an adapter, and `registry` discovers adapters."""
