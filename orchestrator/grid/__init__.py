"""`grid.yaml`: reading it, and the grid that it asks for."""
