"""The rooms and their import order (ARCHITECTURE.md): a module imports from its own room and from rooms below it."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "postfixpy"

BELOW = {
    "config": set(),
    "lookup": {"config"},
    "mail": {"lookup", "config"},
    "dns": {"mail", "lookup", "config"},
    "tls": {"dns", "mail", "lookup", "config"},
    "sasl": {"mail", "lookup", "config"},
    "ipc": {"mail", "lookup", "config"},
    "smtp": {"sasl", "tls", "dns", "ipc", "mail", "lookup", "config"},
    "sink": set(),
    "services": {"smtp", "sasl", "tls", "dns", "ipc", "mail", "lookup", "config"},
    "commands": {"services", "smtp", "sasl", "tls", "dns", "ipc", "mail", "lookup", "config", "sink"},
    "migrate": {"smtp", "sasl", "tls", "dns", "ipc", "mail", "lookup", "config", "sink"},
}
FOUNDATION = {"errors", "log", "options", "__version__"}
TOP = {"__main__"}  # what the scripts of `link` call


def imported_rooms(path: Path) -> set[str]:
    """The rooms of postfixpy that a module imports, wherever in the module."""
    rooms = set()
    package = path.relative_to(PACKAGE.parent).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = f"{base}.{node.module}".strip(".") if node.module else base
            names = [module] if module != "postfixpy" else [f"postfixpy.{alias.name}" for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("postfixpy.")}
    return rooms


def test_imports_point_downwards() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).parts
        if len(parts) == 1:
            continue
        allowed = BELOW[parts[0]] | {parts[0]} | FOUNDATION | (TOP if parts[0] == "commands" else set())
        wrong += [f"{'/'.join(parts)} imports {room}" for room in sorted(imported_rooms(path) - allowed)]
    assert wrong == []


def test_every_room_has_a_place_in_the_order() -> None:
    assert {p.name for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__"} == set(BELOW)


def test_every_module_says_what_it_is() -> None:
    silent = [str(p) for p in PACKAGE.rglob("*.py") if not ast.get_docstring(ast.parse(p.read_text()))]
    assert silent == []
