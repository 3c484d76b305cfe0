"""The parts of the queue manager, qmgr(8).

Pure: `feedback` (concurrency of one destination), `links` (linked list), `timers`, `model` (messages, transports,
destinations, jobs, entries), `jobs` (which entry of a transport is next: the preemptive scheduler), `scheduler` (events
in, `decisions` out, under an explicit clock), `clog` (a warning), `envelope` (records of a queue file to envelope and
recipients), `routing` (resolver answer to transport, next hop, destination queue), `request` (the delivery request),
`disposal` (what becomes of a message when all its recipients have been tried), `scan` (which file to look at next).
`settings` holds their parameters.

The edge: `store` (queue files), `intake` (from file to routed recipients), `agents` (delivery agents), `notices`
(bounce, defer, trace), `flow` (in_flow_delay), `manager` (carries out decisions), and postfixpy.services.qmgr, which
ties them together. `interfaces` says what it needs from its peers.
"""
