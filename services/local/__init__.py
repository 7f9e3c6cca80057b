"""The whole system on one machine, supervised: `python -m services.local`."""
