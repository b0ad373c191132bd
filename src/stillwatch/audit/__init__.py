"""audit: data sets and suspect models."""
