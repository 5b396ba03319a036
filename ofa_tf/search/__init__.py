"""Search: the best subnet within budgets, and the front of the best at every cost. NumPy alone, no model inside."""

from ofa_tf.search.budget import Budget
from ofa_tf.search.find import Found, Front, pareto, search

__all__ = ["Budget", "Found", "Front", "pareto", "search"]
