"""Event models: one file per domain and version. Frozen; within a version only additions are allowed."""
