"""What a build supports: table types (-m), SASL plug-in types (-a, -A), mailbox lock methods (-l), TLS (-T).

The recorded answers of neutral builds and of Debian's packages (data/builds.tsv); a build that was not recorded answers
like the nearest older recorded one of its profile, else like the neutral build of its release.
"""

from postfixpy.config.parameters import RELEASES, Database, read_rows


def listing(database: Database, option: str) -> list[str]:
    """The lines that ``postconf -OPTION`` prints; option is m, a, A, l or T:MODE."""
    position = RELEASES.index(database.release_name)
    answers: dict[str, list[str]] = {}
    for profile, release, recorded, *lines in read_rows("builds.tsv"):
        if recorded == option and RELEASES.index(release) <= position:
            answers[profile] = lines
    return answers.get(database.profile, answers.get("upstream", []))
