"""Record what the installed postconf says about the configurations in fixtures/main.cf.d/.

usage: tools/record_postconf.py [NAME...]

Writes NAME/postconf-X.Y.json for the installed release X.Y: for each command line standard output, standard error and
exit status, all run inside the directory with "-c .". What depends on the machine does not belong in a fixture: set
myhostname, and do not expand mynetworks.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures/main.cf.d"
REAL = "/usr/sbin/postconf"
COMMANDS = (
    *("-n", "-nf", "-nx", "-nxf", "-nH", "-n -C user", "-n -C service", "-M", "-Mf", "-Mx", "-P", "-Px", "-F", "-Ff"),
    *("-M smtp relay/unix nosuch", "-F */unix/chroot", "-P */*/smtpd_client_restrictions", "-d -C service"),
    *("-x smtpd_banner smtpd_timeout mydestination", "biff no_such_name relay_domains", "-h myorigin relayhost"),
    *("-n -o relayhost=$myhostname relayhost", "-dx mail_name append_dot_mydomain"),
)


def ask(source: Path, command: str) -> list[object]:
    """[standard output, standard error, exit status] of one command line."""
    with tempfile.TemporaryDirectory() as directory:
        for name in ("main.cf", "master.cf"):
            copy = Path(directory) / name
            shutil.copy(source / name, copy)
            os.utime(copy, (31536000, 31536000))  # the real one waits while a file is fresh
        environment = {"NORANDOMIZE": "1", "LC_ALL": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/bin"}
        line = ["postconf", "-c", ".", *command.split()]
        done = subprocess.run(line, executable=REAL, capture_output=True, env=environment, cwd=directory)
        texts = [data.decode("utf-8", "surrogateescape") for data in (done.stdout, done.stderr)]
        return [*texts, done.returncode]


def main(names: list[str]) -> None:
    version = subprocess.run([REAL, "-dh", "mail_version"], capture_output=True, text=True, check=True).stdout
    release = ".".join(version.split(".")[:2])
    for source in sorted(FIXTURES.iterdir()):
        if not (source / "main.cf").exists() or (names and source.name not in names):
            continue
        answers = {command: ask(source, command) for command in COMMANDS}
        output = source / f"postconf-{release}.json"
        output.write_text(json.dumps(answers, indent=1, ensure_ascii=True) + "\n", encoding="ascii")
        print(f"wrote {output.relative_to(FIXTURES)}: {len(answers)} answers")


if __name__ == "__main__":
    main(sys.argv[1:])
