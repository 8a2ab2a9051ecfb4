"""What runs an attack: the network, micro-batches, rows, verification. Needs TensorFlow."""
