"""The published experiment's raw results, read into a store with their oddities."""
