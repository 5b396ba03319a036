"""A user's workdir and the main job: `Project`, and a module for each command, called as in `cli/`."""
