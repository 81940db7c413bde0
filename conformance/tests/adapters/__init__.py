"""Tests of the adapters: the contract, each library, releases, modes and reproducers."""
