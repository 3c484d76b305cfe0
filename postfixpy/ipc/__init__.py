"""How the programs of a mail system talk: the attribute protocol, typed messages, the master(8) process protocol."""
