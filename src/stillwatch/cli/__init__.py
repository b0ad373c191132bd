"""cli: one short function per verb."""
