"""A network for one painting, and what can be done with it."""
