"""Pictures and pages: slices, contact sheets, GIFs, plots and HTML."""
