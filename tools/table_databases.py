"""Cases for compare_tables.py: tables in databases."""

import random
import tempfile
from pathlib import Path

from table_case import Case, Step, options, setting

DATABASES = r"""
hosts = x
dbname = d
user = u
query = SELECT 'x'
query = SELECT '%s'
query = SELECT '%u', '%d'
query = SELECT '%1.%2'
query = SELECT %s
query = SELECT "%s"
query = SELECT v FROM t WHERE k = '%s'
query = SELECT v FROM t
query = SELECT
query = SELECT '%q'
query = SELECT NULL
query = SELECT ''
query = SELECT 1 UNION SELECT 2
table = t
select_field = v
where_field = k
additional_conditions = AND 1
result_format = <%s>
result_format = %u at %d
result_format = %S %U %D
result_format = %1
result_format = %
result_format =
domain = example.com
domain = !example.com, x
domain = fail:x
expansion_limit = 1
expansion_limit = 0
expansion_limit = -1
expansion_limit = x
junk
= x
a b = c
""".strip("\n").split("\n")


def sqlite(rng: random.Random, release: str) -> Case:
    """Cases of sqlite:, the one database that needs no server."""
    import sqlite3

    with tempfile.NamedTemporaryFile() as file:
        database = sqlite3.connect(file.name)
        database.execute("CREATE TABLE t (k text, v text)")
        rows = [
            ("a", "1"),
            ("a", "2"),
            ("o'b", "q"),
            ("user@example.com", "box@host"),
            ("é", "ü"),
            ("n", None),
            ("e", ""),
        ]
        database.executemany("INSERT INTO t VALUES (?, ?)", rows)
        database.commit()
        database.close()
        data = Path(file.name).read_bytes()
    lines = ["dbpath = db", rng.choice(DATABASES[3:16])] + [rng.choice(DATABASES) for _ in range(rng.randrange(5))]
    stdin = "a\no'b\nuser@example.com\né\nn\ne\nx@y\n@example.com\nuser@sub.example.com\n%s\nx' OR '1'='1\n".encode()
    stdin += rng.choice([b"", b"\n", b"\xff\n"])
    steps = [Step("postmap", [*options(rng, "fu"), "-q", "-", "sqlite:./c"], stdin)]
    return Case("sqlite", {"db": data, "c": "\n".join(lines).encode() + b"\n"}, steps, setting(rng))
