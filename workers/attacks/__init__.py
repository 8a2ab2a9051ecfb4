"""Attacks: `algorithms/` has them, `runtime/` runs them and verifies what they return."""
