"""Encoding adapters for a model of one's own, and the reference by which kvsplice's own passes are checked."""
