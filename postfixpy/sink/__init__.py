"""The sink: an SMTP and LMTP server for tests and demos, which does what a script tells it.

`rules` is the script (what to refuse, delay or drop, and how often), `session` one conversation without input and
output, `server` the sockets. ``postfixpy sink`` (commands/sink.py) is the program; its option letters are those of
Debian's smtp-sink(1), its default texts too.
"""
