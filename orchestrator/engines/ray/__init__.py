"""Attempts over Ray: the only place that imports it to run a grid."""
