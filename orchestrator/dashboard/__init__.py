"""The live dashboard's server: reads a store, and nothing else, for a page and for Prometheus.

`reader.py` follows the store, `snapshot.py` is what it knew at one moment, `api.py` answers.
"""
