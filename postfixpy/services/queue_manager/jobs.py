"""Which entry of a transport is delivered next: the preemptive job scheduler (SCHEDULER_README).

Jobs are delivered in the order in which their messages became active. A job earns delivery slots as its entries are
chosen (one for each `slot_cost` entries); a job that needs no more entries than the current job has earned may be
moved in front of it, so that a message to few recipients slips past a mailing list. Jobs whose destinations take no
more deliveries now are blocked, and skipped. And since not all recipients of all messages fit into memory, jobs own
slots for recipients, which pass from jobs that need them no more to the oldest job that has unread recipients.

Differs from Postfix: reading more recipients takes time here (the resolver is asked without blocking), so it is
requested, and the job counts as blocked meanwhile instead of being served in the same step.
"""

from collections.abc import Callable

from .model import Entry, Job, Message, Peer, Transport

Refill = Callable[[Message], None]
"""Asked to read more recipients of a message, whose `refilling` it sets."""


def obtain(message: Message, transport: Transport) -> Job:
    """The job of `message` in `transport`, listed, ready to get recipients."""
    job = message.jobs.get(transport)
    if job is None:
        job = message.jobs[transport] = Job(message, transport)
    if job.level < 0:
        _link(job)
    transport.candidate_for = None
    if job.blocked == transport.epoch:
        job.blocked = -1
        transport.current = transport.jobs.first
    return job


def _link(job: Job) -> None:
    """List `job` by the age of its message, which nearly always means at the end."""
    transport, message = job.transport, job.message
    later: Job | None = None
    previous = transport.jobs.last
    passed_current = transport.current is None
    while previous is not None:
        # Jobs that have preempted another one are where they are because of that, not of their age.
        if previous.parent is None and previous.message.queued_at <= message.queued_at:
            break
        passed_current = passed_current or previous is transport.current
        later, previous = previous, transport.jobs.before(previous)
    transport.jobs.insert(job, later)
    later, previous = None, transport.by_age.last
    passed_unread = transport.next_unread is None
    while previous is not None and previous.message.queued_at > message.queued_at:
        passed_unread = passed_unread or previous is transport.next_unread
        later, previous = previous, transport.by_age.before(previous)
    transport.by_age.insert(job, later)
    job.level = 0
    if passed_current:
        transport.current = job
    if passed_unread:
        unread, transport.next_unread = transport.next_unread, job
        if unread is not None:
            release_slots(unread)
    if transport.free_slots > 0:
        job.slots += transport.free_slots
        message.slots += transport.free_slots
        transport.free_slots = 0


def release_slots(job: Job) -> None:
    """Give recipient slots that `job` does not use to the oldest job with unread recipients, else to its transport."""
    transport, message = job.transport, job.message
    if transport.next_unread is job:
        following = transport.by_age.after(job) if job in transport.by_age else None
        while following is not None and following.message.envelope.all_read:
            following = transport.by_age.after(following)
        transport.next_unread = following
    unused = min(job.slots - job.in_core, message.slots - message.in_core)
    if unused <= 0:
        return
    job.slots -= unused
    message.slots -= unused
    transport.free_slots += unused
    heir = transport.next_unread
    if heir is not None and transport.free_slots > 0:
        heir.slots += transport.free_slots
        heir.message.slots += transport.free_slots
        transport.free_slots = 0


def _unlink(job: Job) -> None:
    transport = job.transport
    _orphan(job, None)
    if transport.current is job:
        transport.current = transport.jobs.after(job)
    if job is transport.candidate or job is transport.candidate_for:
        transport.candidate_for = None
    transport.jobs.remove(job)
    transport.by_age.remove(job)
    job.level = -1


def _orphan(job: Job, parent: Job | None) -> None:
    """The children of `job` become those of `parent`."""
    for child in list(job.children):
        job.children.remove(child)
        child.parent = parent
        if parent is not None:
            parent.children.insert(child)


def _pop(job: Job) -> None:
    """Undo that `job` has preempted another: its parent gets back the slots that it did not use after all.

    Only the original parent: a parent by adoption has not paid for this job.
    """
    parent = job.parent
    if parent is not None:
        if job.level == parent.level + 1:
            parent.slots_available -= job.slots_used * job.transport.settings.slot_cost
        parent.children.remove(job)
        job.parent = None
    _orphan(job, parent)
    job.level = 0
    job.transport.candidate_for = None


def retire(job: Job) -> None:
    """Take `job` from the lists; its entries are under way. `obtain` brings it back if it gets more."""
    if job.level > 0:
        _pop(job)
    release_slots(job)
    _unlink(job)


def free(job: Job) -> None:
    """The message is done with: forget `job`, all of whose recipients have been tried."""
    if job.level > 0:
        _pop(job)
    release_slots(job)
    if job.level >= 0:
        _unlink(job)
    del job.message.jobs[job.transport]


def select(transport: Transport, now: float, refill: Refill) -> Entry | None:
    """The entry to deliver next, taken from its peer's waiting list; None when nothing can be delivered now."""
    job = transport.current
    if job is not None and transport.settings.slot_cost >= 2:  # a cost of 1 would let anything preempt anything
        job = _preempt(job, now)
    while job is not None:
        following = transport.jobs.after(job)
        if job.blocked != transport.epoch:
            peer = _choose_peer(job, now, refill)
            if peer is not None:
                return _take(job, peer)
            if job.has_entries or job.message.refilling:
                job.blocked = transport.epoch
                for peer in job.turns:
                    if peer.waiting:
                        peer.destination.blocked = transport.epoch
            else:
                retire(job)
        job = following
    transport.current = None
    return None


def _take(job: Job, peer: Peer) -> Entry:
    transport = job.transport
    entry = peer.waiting.first
    assert entry is not None
    peer.waiting.remove(entry)
    job.selected += 1
    job.slots_available += 1
    job.slots_used += 1
    if job is not transport.candidate_for:
        transport.candidate_for = None
    transport.current = job
    if not job.has_entries and job.message.envelope.all_read:
        retire(job)
    return entry


def _choose_peer(job: Job, now: float, refill: Refill) -> Peer | None:
    """The next of the job's destinations, in turn, that takes a delivery. Asks for more recipients in good time."""
    message, settings = job.message, job.transport.settings
    room = message.slots - message.in_core
    unread = not message.envelope.all_read and message.entries > 0 and not message.refilling
    if unread and (room >= settings.refill_limit or (room > 0 and now - message.refilled_at >= settings.refill_delay)):
        refill(message)
        unread = False
    if job.has_entries:
        for peer in job.turns:
            if peer.waiting and peer.destination.has_room:
                job.turns.rotate(peer)
                return peer
    if unread and room > 0:
        refill(message)
    return None


def unblock(transport: Transport) -> None:
    """A destination that blocked jobs takes deliveries again: look at all blocked jobs anew."""
    transport.epoch += 1
    transport.current = transport.jobs.first
    transport.candidate_for = None


def _preempt(current: Job, now: float) -> Job:
    """The job to choose from: `current`, or the one that now moves in front of it."""
    transport, settings = current.transport, current.transport.settings
    if current.slots_available <= 0 or current.most_entries < settings.minimum_slots * settings.slot_cost:
        return current
    job = _candidate(current, now)
    if job is None:
        return current
    # Some of the price may be paid later (loan and discount); all of it is charged now.
    needed = job.most_entries - job.selected
    if (
        current.slots_available // settings.slot_cost + settings.slot_loan
        < needed * (100 - settings.slot_discount) / 100
    ):
        return current
    if job.level > 0:
        _pop(job)
    transport.jobs.remove(job)
    transport.jobs.insert(job, current)
    job.parent = current
    current.children.insert(job)
    job.level = current.level + 1
    transport.current = job
    transport.candidate_for = None
    current.slots_available -= needed * settings.slot_cost
    job.slots_used = -needed  # what is left of it when the job is popped was not needed
    if not job.message.envelope.all_read:
        extra = (settings.extra_recipient_limit + transport.free_slots + 1) // 2
        job.slots += extra
        job.message.slots += extra
        transport.free_slots -= extra
    return job


def _candidate(current: Job, now: float) -> Job | None:
    """The best job to preempt `current`: the longest waiting for its number of entries, among those that fit into the
    slots that `current` has or can still earn. The answer is kept while nothing changes."""
    transport = current.transport
    if transport.candidate_for is current and (transport.candidate is None or transport.candidate_at == int(now)):
        return transport.candidate
    slots = (current.read - current.selected + current.slots_available) // transport.settings.slot_cost
    best: Job | None = None
    best_score = 0.0
    job = transport.jobs.after(current) if slots > 0 else None
    while job is not None:
        if not job.children and job.blocked != transport.epoch:
            total = job.most_entries
            waited = int(now) - job.message.queued_at + 1
            if 0 < total - job.selected <= slots:
                score = waited / total
                if score > best_score:
                    best, best_score = job, score
            if waited <= best_score and job.level == 0:
                break  # all that follow are younger
        job = transport.jobs.after(job)
    transport.candidate, transport.candidate_for, transport.candidate_at = best, current, int(now)
    return best
