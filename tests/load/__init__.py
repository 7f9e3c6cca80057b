"""Measurements of the whole system; not tests, and not run with them."""
