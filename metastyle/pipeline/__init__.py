"""How a stage runs its notebook, and what it depends on."""
