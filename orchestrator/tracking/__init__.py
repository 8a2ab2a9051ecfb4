"""Results in the trackers that a lab already has: MLflow, TensorBoard, Weights & Biases.

`trackers.py` has an adapter for each, `follower.py` the thread beside the driver that feeds them
from the store. The store stays the record; a tracker that fails never holds up a grid.
"""
