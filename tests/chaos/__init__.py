"""Grids run on a small cluster of fake GPUs while workers, nodes, drivers and files are harmed."""
