"""Cluster files: checked offline by `make test`, run for real by `make test-cluster`."""
