"""ingest: logs in, canonical Arrow batches out; every row read, rejected by name, or outside the window."""
