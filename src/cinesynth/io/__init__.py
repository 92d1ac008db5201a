"""Files, locks, tables, processes, progress, seeds and the environment record: everything not specific to hearts."""
