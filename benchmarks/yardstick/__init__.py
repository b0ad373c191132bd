"""yardstick: what the detection benchmark is made of: worlds, scans of them, counts, and tables."""
