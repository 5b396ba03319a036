"""What can be read off the source of the library: modules, imports, comparisons that belong to one place."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "ofa_tf"
# The registry of devices: the rows, what a row is, and the modules that the rows name.
REGISTRY = (
    "latency/backends.py",
    "latency/backend.py",
    "latency/host.py",
    "latency/adb.py",
    "edgetpu/backend.py",
    "ethosu/backend.py",
)
DEVICES = {"host", "adb", "edgetpu", "ethos-u55-128", "HOST", "ADB", "EDGETPU", "EDGE_TPU"}
LOOKUPS = ("startswith", "removeprefix", "get", "pop")  # methods whose argument is compared
KINDS = {"conv", "mbconv", "pool", "linear"} | {"depthwise", "dense", "mean", "flatten", "add", "multiply"}


def modules() -> dict[str, Path]:
    """The modules of the library and of the command line by their names."""
    found = {}
    for path in LIBRARY.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    for path in (ROOT / "cli").glob("*.py"):
        found["ofa_tf.cli" + ("" if path.stem == "__init__" else f".{path.stem}")] = path
    return found


def imports() -> dict[str, set[str]]:
    """Which modules each module imports, inside functions too; not what only a type checker sees."""
    known = modules()
    return {name: set(_imports(ast.parse(path.read_text()), known)) - {name} for name, path in known.items()}


def _imports(tree: ast.AST, known: dict[str, Path]) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in known else node.module
        else:
            yield from _imports(node, known)


def circles() -> list[list[str]]:
    """Groups of modules that import each other, directly or by way of others."""
    graph = imports()

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        stack = [start]
        while stack:
            for name in graph[stack.pop()] - seen:
                seen.add(name)
                stack.append(name)
        return seen

    reached = {name: reach(name) for name in graph}
    groups = {frozenset(other for other in reached[name] if name in reached[other]) for name in graph}
    return sorted(sorted(group) for group in groups if group)


def lines() -> dict[str, int]:
    """Lines of each module, those of packages that only say what they are left out."""
    counts = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    return {name: count for name, count in counts.items() if count > 1}


def device_comparisons() -> list[str]:
    """Places outside the registry that compare a device's name, as `file:line`."""
    found = []
    for path in modules().values():
        if str(path.relative_to(LIBRARY if path.is_relative_to(LIBRARY) else ROOT)) in REGISTRY:
            continue
        tree = ast.parse(path.read_text())
        constants = DEVICES | {
            alias.asname
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
            if alias.asname and alias.name in DEVICES | {"NAME"}
        }
        lines = {node.lineno for node in _compared(tree) if _names(node) & constants}
        found += [f"{path.relative_to(ROOT)}:{line}" for line in lines]
    return sorted(found)


def _compared(tree: ast.AST) -> Iterator[ast.expr]:
    """What is compared with, or looked up by."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            yield from (node.left, *node.comparators)
        elif isinstance(node, ast.MatchValue):
            yield node.value
        elif isinstance(node, ast.Subscript):
            yield node.slice
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in LOOKUPS:
            yield from node.args


def _names(node: ast.AST) -> set[str]:
    """What a constant or a name says, or the members of a tuple or list of them."""
    if isinstance(node, ast.Constant):
        return {str(node.value).split(":")[0]}
    if isinstance(node, ast.Name | ast.Attribute):
        return {node.id if isinstance(node, ast.Name) else node.attr}
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return set().union(*map(_names, node.elts))
    return set()


def kind_comparisons() -> list[str]:
    """Files that compare the kind of a block or of an operation with the name of one."""
    return sorted(str(path.relative_to(ROOT)) for path in modules().values() if _compares_kinds(path))


def _compares_kinds(path: Path) -> bool:
    for node in ast.walk(ast.parse(path.read_text())):
        subject = node.subject if isinstance(node, ast.Match) else node if isinstance(node, ast.Compare) else None
        if subject is None:
            continue
        kinds = [part for part in ast.walk(subject) if isinstance(part, ast.Attribute) and part.attr == "kind"]
        constants = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
        if kinds and constants & KINDS:
            return True
    return False
