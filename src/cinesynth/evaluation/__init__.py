"""What weights are worth, measured on subjects that nothing was chosen on."""
