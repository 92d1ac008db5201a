"""Reading and writing files safely, locks, tables, processes and seeds: what has nothing to do with hearts."""
