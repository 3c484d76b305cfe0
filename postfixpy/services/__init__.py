"""The programs that master.cf names. `PROGRAMS` is data only, so that importing this costs nothing.

Each entry: program name -> "module:class" in this package.
"""

PROGRAMS: dict[str, str] = {
    "bounce": "bounce:Bounce",
    "cleanup": "cleanup:Cleanup",
    "discard": "discard:Discard",
    "error": "error:Error",
    "flush": "flush:Flush",
    "lmtp": "smtp:Smtp",
    "pickup": "pickup:Pickup",
    "postlogd": "postlogd:Postlogd",
    "proxymap": "proxymap:Proxymap",
    "qmgr": "qmgr:QueueManager",
    "scache": "scache:Scache",
    "showq": "showq:Showq",
    "smtp": "smtp:Smtp",
    "tlsmgr": "tlsmgr:Tlsmgr",
    "trivial-rewrite": "trivial_rewrite:TrivialRewrite",
}
