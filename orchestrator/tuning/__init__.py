"""Attack settings, eps sets and training settings, searched instead of picked by hand."""
