"""Files, tables, long tasks and what reproduces their results: everything not specific to hearts."""
