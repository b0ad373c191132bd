"""formats: one table per foreign log format; `importer` says what a table is."""
