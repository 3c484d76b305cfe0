"""postfixpy link: writes small executables with the plain names of Postfix's programs.

    postfixpy link --commands DIR     sendmail, mailq, postconf...: put DIR in PATH, or link sendmail_path to it
    postfixpy link --daemons DIR      smtp, qmgr, cleanup...: DIR is usable as, or in, a Postfix daemon_directory
    ... --postfix-version 3.7         act as this release. Not needed inside a real Postfix: its release is seen in
                                      the master that starts us (ipc/installed.py)

Each is a script of a few lines for this interpreter, by absolute path and isolated (-I), because master gives its
children no PATH and a working directory that others may write. A script does not see the name that master called it by,
so the name is the file's own. A symbolic link to one, by any name, runs the program that it leads to; but smtp and lmtp
are one program, and so are sendmail, mailq and newaliases: a link of such a name means what it is called. An existing
file is replaced only when it is one of ours.

Among the daemons is postfix-script, by which Postfix's own postfix command starts, stops and asks for our master when
daemon_directory is DIR.
"""

import os
import sys

MARK = "# Written by: postfixpy link"
TWINS = ({"smtp", "lmtp"}, {"sendmail", "mailq", "newaliases"})
"""Names of one program, which looks at how it is called."""


def script(root: str, interpreter: str, release: str = "") -> str:
    """The text of an executable; `root` is the directory that holds the package, `interpreter` is absolute."""
    setting = f'os.environ["POSTFIXPY_VERSION"] = {release!r}\n' if release else ""
    return f"""\
#!{interpreter} -I
{MARK}
import os
import sys

{setting}sys.path.append({root!r})
from postfixpy.commands.link import run_script

sys.exit(run_script(sys.argv))
"""


def run_script(argv: list[str]) -> int:
    """Run what the script argv[0], or the symbolic link to it, stands for. Returns the exit status."""
    from postfixpy.__main__ import run

    program, words = meaning(argv[0], argv[1:])
    return run("postfix" if program == "postfix-script" else program, [program, *words])


def meaning(path: str, words: list[str]) -> tuple[str, list[str]]:
    """The program that `path` stands for, and its arguments.

    A daemon that master knows by another name gets that as its service's (-n), as if the program had it; a later -n
    comes from master and decides.
    """
    from postfixpy.services import PROGRAMS

    called, program = os.path.basename(path), os.path.basename(os.path.realpath(path))
    if called == program or any({called, program} <= twins for twins in TWINS):
        return called, words
    return program, ["-n", called, *words] if program in PROGRAMS else words


def main(argv: list[str]) -> int:
    """Write the executables. Returns the exit status: 64 for wrong usage, 1 when a file cannot be written."""
    from postfixpy.commands import COMMANDS
    from postfixpy.config import database
    from postfixpy.services import PROGRAMS

    names = {
        "--commands": sorted(set(COMMANDS) - {"link", "oauth", "sink", "trace"}),
        "--daemons": sorted({*PROGRAMS, "master", "postfix-script"}),
    }
    arguments = argv[1:]
    known = {*names, "--postfix-version"}
    if not arguments or len(arguments) % 2 or any(option not in known for option in arguments[::2]):
        sys.stderr.write("usage: postfixpy link [--commands DIR] [--daemons DIR] [--postfix-version X.Y]\n")
        return 64
    pairs = list(zip(arguments[::2], arguments[1::2], strict=True))
    release = next((value for option, value in pairs if option == "--postfix-version"), "")
    if release:
        database(release)  # a FatalError names the releases there are
    if len(sys.executable) + 6 > 255:
        sys.stderr.write(f"postfixpy link: the interpreter's path is too long for a script: {sys.executable}\n")
        return 1
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    text = script(root, sys.executable, release)
    for option, directory in pairs:
        if option not in names:
            continue
        for name in names[option]:
            problem = _write(os.path.join(directory, name), text)
            if problem:
                sys.stderr.write(f"postfixpy link: {problem}\n")
                return 1
        sys.stdout.write(f"{directory}: {' '.join(names[option])}\n")
    return 0


def _write(path: str, text: str) -> str:
    """Write one executable in place of an older one of ours. Returns what went wrong, or ""."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.lexists(path) and not _is_ours(path):
            return f"{path} exists and was not written by postfixpy link; it is left alone"
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path + ".new", 0o755)
        os.replace(path + ".new", path)
    except OSError as error:
        return f"{path}: {os.strerror(error.errno or 0)}"
    return ""


def _is_ours(path: str) -> bool:
    if os.path.islink(path):
        return False
    try:
        with open(path, "rb") as file:
            return MARK.encode() in file.read(2000)
    except OSError:
        return False
