"""The commands behind `cli.py`, one module each."""
