"""Studies of a dataset, and generated cases, in the formats that other tools read: NIfTI, nnU-Net and DICOM."""
