"""Runs a `Service` as a process of master(8): options, sockets, status, limits, privileges, end (spec 15.1-15.3, 17).

Order, as in Postfix: log, main.cf, options, log again, lock file, working directory, `pre_jail`, chroot, setuid,
`start`, then clients until it is time to end. A FatalError at any time is logged, the process waits a second, and exits
with status 1; master throttles a service that fails before it has served. The life between is in `process`.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from postfixpy import log
from postfixpy.errors import FatalError, describe

from . import logging, startup
from .accept import AcceptLock
from .debugger import run_debugger
from .master_status import STATUS, Status
from .process import Factory, Process
from .service import Context, Service
from .service_options import Options, check_transport, parse_generation, parse_options

if TYPE_CHECKING:
    from postfixpy.config import Configuration, View


def run(argv: list[str], factory: Factory) -> int:
    """Run the service that `factory` makes; argv[0] is the program's name. Returns the exit status."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # not Python's traceback
    program = os.path.basename(argv[0])
    _name_process(program)
    try:
        logging.install(program)
        return _run(argv, factory)
    except FatalError as error:
        log.fatal(str(error))
    except Exception as error:
        log.panic(describe(error))
    time.sleep(1)
    return 1


def _name_process(program: str) -> None:
    """Let ps and top say "smtp" and not "python"."""
    try:
        with open("/proc/self/comm", "w") as file:
            file.write(program)
    except OSError:
        pass  # not Linux, or no /proc


def _run(argv: list[str], factory: Factory) -> int:
    options = parse_options(argv)
    options.verbose += "MAIL_VERBOSE" in os.environ
    options.debug |= "MAIL_DEBUG" in os.environ
    if options.stderr:
        logging.install(options.program).also_to_stderr()
    config, view, sessions = _configure(options)
    logger = logging.install(options.program, view)
    if options.stderr:
        logger.also_to_stderr()
    if options.daemon and not options.stand_alone and os.isatty(0):
        logger.also_to_stderr()
        raise FatalError("do not run this command by hand")
    context = Context(
        config=config,
        view=view,
        program=options.program,
        service=options.service,
        transport="" if options.stand_alone else options.transport,
        words=options.words,
        sessions=sessions,
        verbose=options.verbose,
    )
    kind = factory if isinstance(factory, type) else Service
    _check(options, kind)
    generation = parse_generation(os.environ.get("GENERATION"))
    if options.debug:
        run_debugger(view)
    try:
        os.chdir(view.queue_directory)
    except OSError as error:
        raise FatalError(f'chdir("{view.queue_directory}"): {os.strerror(error.errno or 0)}') from None
    lock = None
    if not options.stand_alone and not options.alone:
        lock = AcceptLock(f"pid/{options.transport}.{options.service}")
    process = Process(factory, context, options, Status(generation, -1 if options.stand_alone else STATUS), lock)
    return run_loop(process.main)


def run_loop(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run a coroutine function to its end in an event loop, uvloop's when it is installed. Returns its result."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return int(runner.run(main()))


def _configure(options: Options) -> "tuple[Configuration, View, int]":
    """The configuration, this service's view of it, and the number of sessions that its row in master.cf allows."""
    from postfixpy import config as room

    config = room.load(process_name=options.program)
    view = config.view(overrides=options.overrides, process_name=options.program, service_name=options.service)
    startup.check(view)
    if options.alone or options.stand_alone:
        return config, view, 1
    if options.unlimited:
        return config, view, 0
    try:
        row = config.entry(options.service, options.transport)
    except FatalError:
        row = None  # it was edited and is wrong now: master's business, which runs on with the old one
    return config, view, max(1, row.maxproc if row is not None else view.default_process_limit)


def _check(options: Options, kind: type[Service]) -> None:
    if kind.datagrams:
        allowed: tuple[str, ...] = ("unix-dgram",)
    elif kind.triggers:
        allowed = ("unix", "pass", "fifo")
    else:
        allowed = ("inet", "unix", "pass")
    if kind.single and not options.stand_alone and not options.alone:
        raise FatalError(f"service {options.service} requires a process limit of 1")
    if kind.unlimited and not options.stand_alone and not options.unlimited:
        raise FatalError(f"service {options.service} requires a process limit of 0")
    if kind.privileged and options.unprivileged:
        raise FatalError(f"service {options.service} requires privileged operation")
    check_transport(options, allowed)
