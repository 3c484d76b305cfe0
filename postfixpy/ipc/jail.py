"""Giving up privileges: chroot to the queue directory, and the mail owner's user id (chroot_uid(3); -c and -u).

Python loads code when it is first used, which cannot work inside a chroot. `preload` therefore imports what the
standard library and our dependencies load late: codecs, IDNA tables, DNS record types, the local time zone, and the C
library's name-service modules (by one look-up). A file that Postfix needs in its jail (etc/resolv.conf, etc/hosts...)
we need there, too. The same is done when the mail owner cannot read the interpreter's files.

Without root nothing happens: the process has one user's rights from the start.
"""

import importlib
import os
import pkgutil
import sys
from typing import TYPE_CHECKING

from postfixpy.errors import FatalError

if TYPE_CHECKING:
    from postfixpy.config import View

MODULES = (
    *("encodings.idna", "encodings.utf_8", "encodings.latin_1", "encodings.ascii", "encodings.punycode"),
    *("encodings.utf_7", "stringprep", "unicodedata", "base64", "binascii", "json", "traceback", "linecache"),
    *("hashlib", "hmac", "secrets", "random", "email.utils", "ipaddress", "getpass", "tempfile", "concurrent.futures"),
    *("concurrent.futures.thread", "asyncio.sslproto", "ssl", "_strptime", "zoneinfo", "idna", "idna.core"),
    *("idna.idnadata", "idna.uts46data"),
)
DATABASES = {"ldap": "ldap:", "libldap": "ldap:", "mongodb": "mongodb:", "mysql": "mysql:", "pgsql": "pgsql:"}
"""Modules of postfixpy.lookup that load a client library, which may be large, and the table type that they are for."""

SASL = ("http.client", "gssapi", "spnego")
"""What authentication loads late: token sources, and libraries of mechanisms, which are not there without them."""

PACKAGES = ("dns.rdtypes", "dns.rdtypes.ANY", "dns.rdtypes.IN", "dns.rdtypes.CH")


def preload(view: "View") -> None:
    """Load what would otherwise be loaded at first use. A module that is not installed is nobody's need.

    Every setting is expanded once, because only some forms of expansion load more code.
    """
    import socket
    import time

    sasl = view.smtp_sasl_auth_enable or view.lmtp_sasl_auth_enable
    for name in (*MODULES, *(SASL if sasl else ())):
        try:
            importlib.import_module(name)
        except ImportError:
            pass
    if "dns" in sys.modules:
        for name in PACKAGES:
            package = importlib.import_module(name)
            for module in pkgutil.iter_modules(package.__path__, name + "."):
                importlib.import_module(module.name)
    for place in [m for m in sys.modules if m.startswith("postfixpy.") and hasattr(sys.modules[m], "__path__")]:
        if place in ("postfixpy.commands", "postfixpy.services", "postfixpy.migrate"):
            continue
        unused = _unused_databases(view) if place == "postfixpy.lookup" else set()
        for module in pkgutil.iter_modules(sys.modules[place].__path__, place + "."):
            try:
                if module.name.rpartition(".")[2] not in unused:
                    importlib.import_module(module.name)
            except Exception:
                pass  # a table type without its library, in whatever words: who needs it will be told
    _ = view.configuration.database.families
    view.configuration.database.foreign("")
    for name in view.configuration.settings.values:
        try:
            view.text(name)
        except FatalError:
            pass  # the service reports it when it needs the value
    time.tzset()
    try:
        socket.getaddrinfo("localhost", 25)
    except OSError:
        pass


def _unused_databases(view: "View") -> set[str]:
    """The modules for databases that main.cf does not name. (What `pre_jail` has opened is loaded in any case.)"""
    text = "\n".join(view.configuration.settings.values.values())
    return {module for module, kind in DATABASES.items() if kind not in text}


def drop_privileges(directory: str, owner: str, view: "View") -> None:
    """Change the root directory to `directory` and the user to `owner`; "" leaves that as it is.

    `view` is what the process will go on to ask. Does nothing when not root. Raises FatalError.
    """
    if os.geteuid() != 0 or not (directory or owner):
        return
    uid = gid = 0
    if owner:
        uid, gid = user_ids(owner)
        os.setgid(gid)
        os.initgroups(owner, gid)
    if directory or not _can_read_code(uid):
        preload(view)
    if directory:
        try:
            os.chroot(directory)
            os.chdir("/")
        except OSError as error:
            raise FatalError(f"chroot({directory}): {os.strerror(error.errno or 0)}") from None
    if owner:
        os.setuid(uid)


def _can_read_code(uid: int) -> bool:
    """Whether a user can load modules: not when the interpreter is in root's home directory."""
    if uid == 0:
        return True
    os.seteuid(uid)
    try:
        return all(os.access(path, os.R_OK, effective_ids=True) for path in (os.__file__, __file__))
    finally:
        os.seteuid(0)


def user_ids(name: str) -> tuple[int, int]:
    """The (user id, group id) of a user. Raises FatalError."""
    import pwd

    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise FatalError(f"unknown user: {name}") from None
    return entry.pw_uid, entry.pw_gid
