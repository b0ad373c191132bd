"""engine: runs one kernel over all batches and brings the rows of an account together."""
