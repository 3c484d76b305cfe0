"""mailq(1): list the mail queue. It is sendmail(1) under another name, and takes sendmail's options."""

from postfixpy.commands import sendmail


def main(argv: list[str]) -> int:
    """Run the command. Returns the exit status."""
    return sendmail.main(["mailq", *argv[1:]])
