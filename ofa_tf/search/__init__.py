"""Search: the best subnet within budgets, and the front of the best at every cost. Only NumPy, no model inside.

The package can be called, as its function `search`: `ofa_tf.search` is this package for those who import from it, and
the search for those who have `import ofa_tf as ofa`.
"""

import sys
from types import ModuleType
from typing import Any

from ofa_tf.search.budget import Budget
from ofa_tf.search.find import Found, Front, pareto, search

__all__ = ["Budget", "Found", "Front", "pareto", "search"]


class _Callable(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Found:
        return search(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
