"""Everything two processes must agree on. Pure: no I/O, no clock, no log line."""
