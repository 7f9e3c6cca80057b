"""Deals: intents, quotes and negotiations, each nothing but the fold of its events."""
