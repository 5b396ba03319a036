"""Pictures of what a project has found."""
