"""The Coral Edge TPU: what it runs, its compiler, its latencies."""
