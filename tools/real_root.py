#!/usr/bin/env python3
"""Puts the real Postfix of another release into a folder, from Debian's packages, so that tests and recordings run it.

    tools/real_root.py 3.11 3.10      makes the folders that are not there yet; prints the path of each

The folders lie in /var/lib/postfixpy/roots, or in the environment variable POSTFIXPY_ROOTS. The programs run by
chroot(2): `enter` is for the preexec_fn of subprocess. What a program works on must lie below the root; ROOT/tmp is
there for that. The name server in a root is 127.0.0.53, where the recorder's listens. Needs root, debootstrap and a
package mirror, which is the one that apt uses.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

SUITES = {"3.5": "bullseye", "3.10": "trixie", "3.11": "forky"}
"""Debian's suite of each release. The machine's own, 3.7, is a package of the machine."""
PACKAGES = [
    "netbase",
    "ca-certificates",
    "libsasl2-modules",
    "postfix",
    "postfix-pcre",
    "postfix-lmdb",
    "postfix-cdb",
    "postfix-sqlite",
    "postfix-mysql",
    "postfix-pgsql",
    "postfix-ldap",
]
ROOTS = Path(os.environ.get("POSTFIXPY_ROOTS", "/var/lib/postfixpy/roots"))


def root(release: str) -> Path:
    """Where the root of a release is, if it has been made."""
    return ROOTS / release


def available(release: str) -> bool:
    """Whether the root of a release has been made."""
    return (root(release) / "usr/sbin/postconf").exists()


def enter(release: str, directory: str = "/") -> None:
    """Change root to that of a release, and go to `directory` in it."""
    os.chroot(root(release))
    os.chdir(directory)


def make(release: str) -> Path:
    """The root of a release, made when it is missing. Raises SystemExit with what is wrong."""
    place = root(release)
    if available(release):
        return place
    if release not in SUITES:
        raise SystemExit(f"no Debian suite is known to have Postfix {release}; known: {', '.join(SUITES)}")
    if shutil.which("debootstrap") is None:
        raise SystemExit("debootstrap is not installed: apt-get install debootstrap")
    fresh = place.with_name(f".{release}.{os.getpid()}")
    fresh.parent.mkdir(parents=True, exist_ok=True)
    suite = SUITES[release]
    script = Path("/usr/share/debootstrap/scripts", suite)
    words = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", suite, str(fresh), mirror()]
    words += [] if script.exists() else [str(script.with_name("sid"))]  # a suite younger than debootstrap
    print(f"making {place}: Debian {suite} with Postfix {release}, about a minute", file=sys.stderr)
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"debootstrap of {suite} fails:\n{done.stdout[-2000:]}")
        found = version(fresh)
        if not found.startswith(f"{release}."):
            raise SystemExit(f"Debian {suite} has Postfix {found}, not {release}: mend SUITES in {__file__}")
        (fresh / "etc/resolv.conf").write_text("nameserver 127.0.0.53\noptions timeout:1 attempts:1\n")
        shutil.rmtree(place, ignore_errors=True)
        fresh.rename(place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return place


def mirror() -> str:
    """The package mirror that apt uses."""
    words = ["apt-get", "indextargets", "--format", "$(SITE)"]
    sites = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    found = sorted({site for site in sites if "security" not in site})
    if not found:
        raise SystemExit("apt has no package lists: apt-get update")
    return found[0]


def version(place: Path) -> str:
    """The release of the Postfix in a root."""
    words = ["chroot", str(place), "/usr/sbin/postconf", "-dh", "mail_version"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    for name in sys.argv[1:]:
        print(make(name))
