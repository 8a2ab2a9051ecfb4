"""Where attempts run: in this process, or over Ray."""
