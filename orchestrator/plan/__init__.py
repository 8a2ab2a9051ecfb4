"""What a grid takes: its tasks, their order, durations and cost. Pure."""
