"""The parts of cleanup(8): what happens to a message between its submission and the queue.

settings    the parameters and tables, once for a process
state       one message: what is known about it, what went wrong, and its queue file
envelope    the records before and behind the content
content     headers and body
missing     headers that a message must have and lacks
checks      header_checks and body_checks, and their actions
recipients  envelope addresses: rewriting, mapping, aliases, duplicates, automatic copies
mapping     canonical tables, masquerading, virtual aliases
refusal     returning a message that cannot be queued to its sender

Order of reading: services/cleanup.py, then as above. Addresses are `str` in internal form unless a name says external;
content is `bytes`.
"""
