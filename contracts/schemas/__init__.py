"""The generated JSON Schemas, one `<TYPE>.<version>.json` a contract; made by `python -m contracts.schemas`."""
