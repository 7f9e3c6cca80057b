"""Payments: what an order costs, asked for once and settled once, as its provider tells."""
