"""compare: is that model ours, and did it learn from ours: tests with controls and a right to say "cannot tell"."""
