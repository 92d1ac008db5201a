"""A generated case as files: NIfTI, a JSON sidecar and pictures."""
