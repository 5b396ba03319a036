"""Arm's Ethos-U: which files run on it, its compiler Vela, and latencies that Vela estimates."""
