"""Pictures and pages: slices, contact sheets, GIFs and HTML reports."""
