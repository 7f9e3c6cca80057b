"""Pure: inputs are methods, outputs are values or calls to a port; no I/O, no clock, no task."""
