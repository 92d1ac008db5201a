"""A generated case on disk: its schema, writing, reading and cohort table; exports to NIfTI, nnU-Net and DICOM."""
