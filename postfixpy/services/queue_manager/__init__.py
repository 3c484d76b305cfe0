"""The parts of the queue manager, qmgr(8).

Pure: `feedback` (concurrency of one destination), `links` (linked list), `model` (messages, transports, destinations,
jobs, entries), `jobs` (which entry of a transport is next: the preemptive scheduler), `scheduler` (events in, decisions
out, under an explicit clock), `envelope` (records of a queue file -> envelope and recipients), `routing` (resolver
answer -> transport, next hop, destination queue), `disposal` (what becomes of a message when all its recipients have
been tried), `scan` (which queue to look at next). `settings` holds their parameters.

The edge: `agents` (delivery agents), `store` (queue files), `notices` (bounce, defer, trace), `flow` (in_flow_delay),
and postfixpy.services.qmgr, which ties them together.
"""
