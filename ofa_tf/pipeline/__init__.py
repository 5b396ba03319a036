"""The main job after training: predict, measure, search, export. Each command calls one function of a module here.

A module is imported by its own name, so that a command loads TensorFlow only where it computes with it.
"""
