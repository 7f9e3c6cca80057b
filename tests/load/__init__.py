"""The bench: fan-out, memory, reconnect storms and replays, measured beside peers. Not tests, and not run with them."""
