"""Domain services, the gateway and what they stand on; each starts with `python -m services.<name>`."""
