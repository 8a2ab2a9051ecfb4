"""Which task next, and what a failure means: events in, commands out. Pure."""
