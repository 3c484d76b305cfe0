"""Compare our postconf with the recorded answers of the real one, in the shared research data.

usage: tools/check_postconf.py [SHARED] [cases] [listings] [configs]

SHARED is the folder with params/ and configs/ ($POSTFIXPY_SHARED, else ../shared). Without further words all parts run:

cases      params/postconf-cases as 3.11 and as 2.8, 3.5, 3.7 and 3.10. They were recorded on a machine of one name with
           only a loopback interface, so this part makes such a name space and needs root.
listings   postconf -d of every release, and of Debian's packages with their stock master.cf
configs    configs/*: -n -nf -nx -nH -M -Mf -Mx -P -F as Debian's 3.7.11

The order of warnings was random when the configurations were recorded, so standard error is compared sorted there.
The cases start a process for each command, the releases at the same time; the other parts run postconf in this process.
"""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PROGRAM = "import sys; sys.argv[0] = 'postconf'; from postfixpy.commands.postconf import main; sys.exit(main(sys.argv))"
HOST = ("myhostname", "mydomain", "mynetworks", "process_id")
DEBIAN = {"3.5": "3.5.25", "3.7": "3.7.11", "3.10": "3.10.13", "3.11": "3.11.7"}
MODES = {
    "n": ["-n"],
    "nf": ["-nf"],
    "nx": ["-nx"],
    "n-h": ["-nH"],
    "M": ["-M"],
    "Mf": ["-Mf"],
    "Mx": ["-Mx"],
    "P": ["-P"],
    "F": ["-F"],
}
NAME_SPACE = ["unshare", "-n", "-u", "sh", "-c", 'ip link set lo up; hostname mail.example.com; exec "$@"', "sh"]


def postconf(arguments: list[str], release: str, profile: str) -> tuple[int, bytes, bytes]:
    """Ours: status, output, messages."""
    from postfixpy.commands.postconf import main

    os.environ.update(POSTFIXPY_VERSION=release, POSTFIXPY_PROFILE=profile)
    os.environ.pop("MAIL_CONFIG", None)
    output, errors = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = main(["postconf", *arguments])
        output.flush()
        errors.flush()
    return status, output.buffer.getvalue(), errors.buffer.getvalue()  # type: ignore[attr-defined]


def check_cases(shared: Path) -> int:
    """The cases, by their own runner. No site-packages but the path of them: site.py costs as much as the command."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        wrapper = Path(folder) / "postconf"
        path = f"{ROOT}:{sysconfig.get_path('purelib')}"
        wrapper.write_text(f'#!/bin/sh\nPYTHONPATH={path} exec {sys.executable} -S -c "{PROGRAM}" "$@"\n')
        wrapper.chmod(0o755)
        runner = shared / "params/tools/run_cases.py"

        def run(release: str) -> subprocess.CompletedProcess[str]:
            command = [*NAME_SPACE, "python3", str(runner), "--postconf-dir", folder, "--release", release]
            environment = dict(os.environ, POSTFIXPY_VERSION=release, POSTFIXPY_PROFILE="upstream")
            return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)

        releases = ("3.11", "3.10", "3.7", "3.5", "2.8")
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for release, done in zip(releases, pool.map(run, releases), strict=True):
                print(f"cases as {release}: {done.stdout.strip() or done.stderr.strip()}")
                failed += done.returncode != 0
    return failed


def _without_host(listing: bytes) -> list[bytes]:
    names = tuple(name.encode() + b" =" for name in HOST)
    return [line for line in listing.splitlines() if not line.startswith(names)]


def check_listings(shared: Path) -> int:
    """postconf -d; the values that depend on the host are left out."""
    failed = 0
    folders = sorted((shared / "params/versions").iterdir(), key=lambda path: tuple(map(int, path.name.split("."))))
    recorded = [("upstream", folder.name, folder / "postconf-d.txt", None) for folder in folders]
    for release, patch in DEBIAN.items():
        folder = shared / "params/debian"
        recorded.append(("debian", release, folder / f"postconf-d-{patch}.txt", folder / f"master.cf-{patch}"))
    for profile, release, listing, master in recorded:
        with tempfile.TemporaryDirectory() as directory:
            (Path(directory) / "main.cf").touch()
            target = Path(directory) / "master.cf"
            if master is None:
                target.touch()
            else:
                shutil.copy(master, target)
            got = _without_host(postconf(["-c", directory, "-d"], release, profile)[1])
            want = _without_host(listing.read_bytes())
            place = b"config_directory = "
            got = [place if line.startswith(place) else line for line in got]
            want = [place if line.startswith(place) else line for line in want]
        different = sorted(set(got) ^ set(want))
        print(f"postconf -d {profile} {release}: {len(want)} lines, {len(different)} differ")
        for line in different:
            print("    " + ("ours: " if line in got else "real: ") + line.decode("utf-8", "replace"))
        failed += bool(different) or len(got) != len(want)
    return failed


def check_configs(shared: Path) -> int:
    """The real configurations."""
    total = failed = 0
    stock = shared / "configs/debian__postfix-3.7.11__etc/master.cf.dist"
    fallback = next(iter(sorted((shared / "configs").glob("debian__*/master.cf*"))), stock)
    for source in sorted((shared / "configs").iterdir()):
        if not source.is_dir():
            continue
        for stem, options in [*MODES.items(), ("n-debianmaster", ["-n"])]:
            output = source / f"postconf-{stem}.out"
            if not output.exists():
                continue
            with tempfile.TemporaryDirectory() as folder:
                directory = Path(folder) / "conf"
                shutil.copytree(source, directory)
                if not (source / "master.cf").exists() and stem != "n":
                    shutil.copy(fallback, directory / "master.cf")
                status, stdout, stderr = postconf(["-c", str(directory), *options], "3.7", "debian")
                place = str(directory).encode()
            total += 1
            mark = b"@CONFIG_DIR@"
            got = (_settled(stdout.replace(place, mark)), _sorted(stderr.replace(place, mark)))
            want = (_settled(output.read_bytes()), _sorted((source / f"postconf-{stem}.err").read_bytes()))
            code = int((source / f"postconf-{stem}.rc").read_text())
            if got != want or status != code:
                failed += 1
                print(f"{source.name} {stem}: differs")
                for ours, real in zip(got, want, strict=True):
                    _show_difference(ours, real)
    print(f"configs: {total - failed} of {total} answers equal")
    return failed


def _settled(text: bytes) -> bytes:
    """Without what depends on the run: where the line with the directory's name was folded, and the process id."""
    text = text.replace(b"config_directory =\n    @", b"config_directory = @")
    return re.sub(rb"(?<=/postconf )[0-9]+(?= & sleep)", b"PID", text)


def _sorted(text: bytes) -> bytes:
    return b"\n".join(sorted(text.splitlines()))


def _show_difference(ours: bytes, real: bytes) -> None:
    for mark, one, other in (("ours", ours, real), ("real", real, ours)):
        for line in one.splitlines():
            if line not in other.splitlines():
                print(f"    {mark}: {line.decode('utf-8', 'replace')}")


def main(words: list[str]) -> int:
    parts = {"cases": check_cases, "listings": check_listings, "configs": check_configs}
    places = [word for word in words if word not in parts]
    shared = Path(places[0] if places else os.environ.get("POSTFIXPY_SHARED") or ROOT.parent / "shared")
    wanted = [word for word in words if word in parts] or list(parts)
    return 1 if sum(parts[word](shared) for word in wanted) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
