"""Near-duplicate search: does a generated heart copy a training subject?"""
