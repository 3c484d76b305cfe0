"""The programs that people type, one module each. `COMMANDS` is data only, so that importing this costs nothing.

Each entry: name -> (module in this package, one sentence for --help). A module has ``main(argv) -> int``; argv[0] is
the program's name as typed, and the result is the exit status.
"""

COMMANDS: dict[str, tuple[str, str]] = {
    "link": ("link", "write executables with the plain names: link --commands DIR, link --daemons DIR"),
    "mailq": ("mailq", "list the mail queue"),
    "newaliases": ("newaliases", "rebuild the alias tables"),
    "oauth": ("oauth", "get the first OAuth2 token of a mail account, and test the file that keeps it"),
    "postalias": ("postalias", "make or query alias tables"),
    "postcat": ("postcat", "show the contents of queue files"),
    "postconf": ("postconf", "show and edit the configuration"),
    "postdrop": ("postdrop", "put a message into the maildrop queue"),
    "postfix": ("postfix", "start, stop, reload, check: control the mail system"),
    "postlog": ("postlog", "log a text as the mail system does"),
    "postmap": ("postmap", "make or query lookup tables"),
    "postqueue": ("postqueue", "list or flush the queue"),
    "postsuper": ("postsuper", "delete, hold, release, requeue messages"),
    "posttls-finger": ("posttls_finger", "tell the TLS properties of a server"),
    "sendmail": ("sendmail", "submit mail, as every program expects it"),
    "trace": ("trace", "show session traces (postfixpy_session_trace_directory) as ladders"),
    "sink": ("sink", "an SMTP and LMTP server that accepts, delays, refuses or drops as told"),
    "tlsrpt": ("tlsrpt", "collect TLSRPT events and write the reports of RFC 8460"),
}
