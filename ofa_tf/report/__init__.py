"""What a project has found, to look at: plots, and one HTML page of a workdir."""
