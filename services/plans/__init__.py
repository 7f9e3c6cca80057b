"""Plans: A2A tasks as event-sourced aggregates, and what executes them."""
