"""proxymap and proxywrite, asked by our own client over a socket, and by requests as they travel."""

import asyncio
from pathlib import Path

import pytest

from postfixpy.errors import FatalError
from postfixpy.ipc import proxymap as wire
from postfixpy.ipc.channel import Channel
from postfixpy.ipc.message import announcement
from postfixpy.ipc.service import Context
from postfixpy.lookup import Flags, TableError, open_table
from postfixpy.services.proxymap import Proxymap, approved
from tests.ipc.mail_system import MailSystem


class Service:
    """A running service in the mail system of `directory`; `main` is what its clients do, in a thread."""

    def __init__(self, directory: Path, name: str = "proxymap", text: str = "") -> None:
        self.system = MailSystem(directory, text)
        self.name = name

    def run(self, main):
        async def serve():
            service = Proxymap(Context(None, self.system.view(), "proxymap", self.name))
            await service.pre_jail()
            await service.start()

            class Server(Channel):
                def connection_made(self, transport):
                    super().connection_made(transport)
                    clients.append(self)
                    self.write(announcement(service.protocol, self.release))
                    self.task = asyncio.get_running_loop().create_task(self.work())

                async def work(self):
                    await service.serve(self)
                    self.close()
                    await self.wait_closed()

            clients = []
            loop = asyncio.get_running_loop()
            server = await loop.create_unix_server(lambda: Server("unix.proxymap"), f"private/{self.name}")
            try:
                await asyncio.to_thread(main, self.system.view())
            finally:
                server.close()
                await service.stop()
                for client in clients:
                    client.transport.abort()
                    await client.task

        with self.system:
            asyncio.run(serve())
            return self.system.log


def test_lookups_through_the_service(tmp_path):
    (tmp_path / "rules").write_text("/(.)/ <$1>\n")
    text = "proxy_read_maps = proxy:inline:{a=1}, $virtual_alias_maps\n"
    text += f"virtual_alias_maps = proxy:regexp:{tmp_path}/rules"

    def main(view):
        table = open_table("proxy:inline:{a=1}", view)
        assert (table.fixed, table.lookup("A"), table.lookup("b")) == (True, "1", None)
        rules = open_table(f"proxy:regexp:{tmp_path}/rules", view)
        assert (rules.pattern, rules.lookup("x")) == (True, "<x>")
        with pytest.raises(FatalError, match='proxymap service is not configured for table "static:x"'):
            open_table("proxy:static:x", view, surrogates=False)
        table.close()
        rules.close()

    log = Service(tmp_path, text=text).run(main)
    assert log == [
        'warning: request for unapproved table: "static:x"',
        "warning: to approve this table for read-only access, list proxy:static:x in main.cf:proxy_read_maps",
    ]


def test_tables_that_cannot_answer(tmp_path):
    def main(view):
        for name in ("fail:x", f"texthash:{tmp_path}/none"):
            table = open_table(f"proxy:{name}", view)
            with pytest.raises(TableError):
                table.lookup("a")
            table.close()

    log = Service(tmp_path, text=f"proxy_read_maps = proxy:fail:x proxy:texthash:{tmp_path}/none").run(main)
    assert log[0] == f"error: open database {tmp_path}/none: No such file or directory"


@pytest.mark.parametrize("kind", ["lmdb", "btree", "hash", "internal"])
def test_changes(tmp_path, kind):
    """A table that is not there yet is made; what was stored is there for the next process."""
    spec = f"{kind}:{tmp_path}/cache"

    def main(view):
        table = open_table(f"proxy:{spec}", view, writable=True)
        assert [table.update(key, "v") for key in ("a", "B", "c")] == [True] * 3
        assert table.update("a", "w")
        assert [table.lookup("a"), table.lookup("b"), table.remove("c"), table.remove("c")] == ["w", "v", True, False]
        assert sorted(table.items()) == [("a", "w"), ("b", "v")]
        table.close()

    service = Service(tmp_path, "proxywrite", f"proxy_write_maps = proxy:{spec}")
    assert service.run(main) == []
    if kind != "internal":
        with MailSystem(tmp_path) as system:
            assert sorted(open_table(spec, system.view()).items()) == [("a", "w"), ("b", "v")]


def test_the_reading_service_changes_nothing(tmp_path):
    spec = f"lmdb:{tmp_path}/cache"
    with MailSystem(tmp_path, f"proxy_read_maps = proxy:{spec}") as system:
        service = Proxymap(Context(None, system.view(), "proxymap", "proxymap"))

        async def main():
            await service.pre_jail()
            request = wire.Update("update", spec, 0, 0, "a", "b").pairs()
            return await service.answer([(name, str(value)) for name, value in request], {})

        assert asyncio.run(main()) == [("status", wire.DENY), ("flags", 0)]
        assert system.log == [f"warning: refusing {spec} update request on non-proxywrite service"]


def test_many_changes_are_written_together(tmp_path):
    spec = f"hash:{tmp_path}/cache"
    with MailSystem(tmp_path, f"proxy_write_maps = proxy:{spec}") as system:
        service = Proxymap(Context(None, system.view(), "proxymap", "proxywrite"))
        batches = []
        apply = service._apply
        service._apply = lambda name, batch: batches.append(len(batch)) or apply(name, batch)

        async def main():
            await service.pre_jail()
            table = service._opened(spec, Flags.MAPS)
            await asyncio.gather(*(service._change(table, f"k{i}", "v") for i in range(50)))
            await service.stop()

        asyncio.run(main())
        assert batches[0] + sum(batches[1:]) == 50 and len(batches) <= 3
        assert len(list(open_table(spec, system.view()).items())) == 50


def test_malformed_requests(tmp_path):
    with MailSystem(tmp_path, "proxy_read_maps = proxy:static:x") as system:
        service = Proxymap(Context(None, system.view(), "proxymap", "proxymap"))

        async def main(*pairs):
            await service.pre_jail()
            return await service.answer(list(pairs), {})

        assert asyncio.run(main(("request", "what"))) == [("status", wire.BAD)]
        assert asyncio.run(main()) == [("status", wire.BAD)]
        bad = [("status", wire.BAD), ("flags", 0), ("value", "")]
        assert asyncio.run(main(("request", "lookup"), ("table", "static:x"))) == bad
        odd = [
            ("request", "sequence"),
            ("table", "static:x"),
            ("instance_flags", "0"),
            ("flags", "0"),
            ("function", "7"),
        ]
        assert asyncio.run(main(*odd)) == [("status", wire.BAD), ("flags", 0), ("key", ""), ("value", "")]
        assert system.log[0] == 'warning: unrecognized request: "what", ignored'


def test_service_names(tmp_path):
    with (
        MailSystem(tmp_path) as system,
        pytest.raises(FatalError, match='service name must be "proxywrite" or "proxymap"'),
    ):
        Proxymap(Context(None, system.view(), "proxymap", "other"))


def test_what_is_approved(tmp_path, capsys):
    (tmp_path / "list").write_text("proxy:static:in-file\n# no\nname\n")
    text = (
        "hash:/a proxy:hash:/b, {proxy:mysql:/c search_order=x} [::1]:proxy:x proxy:proxy:unix:passwd.byname "
        f"pipemap:{{proxy:static:d, unionmap:{{proxy:static:e}}}} {tmp_path}/list proxy:pipemap:{{static:f}}"
    )
    assert list(approved(text, "x")) == [
        *("hash:/b", "mysql:/c", "unix:passwd.byname", "static:d", "static:e", "static:in-file", "pipemap:{static:f}"),
    ]
