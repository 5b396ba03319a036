"""Latency: devices, tables, and building one."""
