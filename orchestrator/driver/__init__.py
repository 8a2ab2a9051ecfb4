"""The loop between scheduler, engine and store, and what a run keeps while it runs."""
