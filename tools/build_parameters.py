"""Write the files that are derived from the parameter database (postfixpy/config/data/).

usage: tools/build_parameters.py [--check]

postfixpy/config/names.pyi              a typed attribute for every parameter, for mypy and editors
postfixpy/config/compiled_defaults.py   the conditional expressions in compiled-in defaults, compiled, so that no
command
                                        loads the grammar for a default

With --check nothing is written, and the exit status is 1 if a file is out of date.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from postfixpy.config import conditional, macro  # noqa: E402 - needs the path above
from postfixpy.config.parameters import RELEASES, read_rows  # noqa: E402

PYTHON_TYPES = {
    **dict.fromkeys(("string", "raw"), "str"),
    **dict.fromkeys(("int", "long", "nint", "time"), "int"),
    **dict.fromkeys(("bool", "nbool"), "bool"),
}


def names_stub() -> str:
    """The text of names.pyi."""
    lines = [
        '"""The parameters as typed attributes. Made by tools/build_parameters.py; do not edit."""',
        "",
        "class ParameterNames:",
    ]
    for name, kind, *_ in read_rows("parameters.tsv"):
        if name.isidentifier():
            lines.append(f"    {name}: {PYTHON_TYPES[kind]}")
    return "\n".join(lines) + "\n"


def _collect(text: str, found: dict[str, conditional.Part]) -> None:
    for part in macro.compile_text(text):
        if not isinstance(part, str) and part[0] == "e":
            found[part[2]] = conditional.compile_expression(part[2])
            for inner in _texts(part[1]):
                _collect(inner, found)


def _texts(part: conditional.Part) -> list[str]:
    texts: list[str] = []
    for item in part[1:]:
        if isinstance(item, tuple):
            texts += _texts(item)
        elif isinstance(item, str):
            texts.append(item)
    return texts


def compiled_defaults() -> str:
    """The text of compiled_defaults.py."""
    found: dict[str, conditional.Part] = {}
    rows = read_rows("parameters.tsv") + read_rows("profile-debian.tsv")
    for row in rows:
        for cell in row[1:]:
            release, equals, value = cell.partition("=")
            if equals and release in RELEASES and "${" in value:
                _collect(value, found)
    lines = [
        '"""Conditional expressions of compiled-in defaults. Made by tools/build_parameters.py; do not edit."""',
        "",
        "# ruff: noqa: E501 - the keys are what they are",
        "",
        "from __future__ import annotations",
        "",
        "TYPE_CHECKING = False",
        "if TYPE_CHECKING:",
        "    from postfixpy.config.conditional import Part",
        "",
        "COMPILED: dict[str, Part] = {",
    ]
    lines += [f"    {source!r}: {found[source]!r}," for source in sorted(found)]
    return _formatted("\n".join([*lines, "}"]) + "\n")


def _formatted(text: str) -> str:
    ruff = [sys.executable, "-m", "ruff", "format", "--stdin-filename", "compiled_defaults.py", "-"]
    done = subprocess.run(ruff, input=text, text=True, capture_output=True, check=True, cwd=ROOT)
    return done.stdout


OUTPUTS = {
    ROOT / "postfixpy/config/names.pyi": names_stub,
    ROOT / "postfixpy/config/compiled_defaults.py": compiled_defaults,
}


def main() -> int:
    stale = 0
    for path, build in OUTPUTS.items():
        text = build()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale = 1
        if "--check" in sys.argv:
            print(f"{path.relative_to(ROOT)} is out of date: run tools/build_parameters.py")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return stale if "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
