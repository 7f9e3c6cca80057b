"""HTTP -> stream, for publishers in other languages: `python -m services.ingest`."""
