"""Encoding adapters for your own model, and the reference against which kvsplice's own passes are checked."""
