"""postfixpy: a configuration-compatible reimplementation of Postfix.

See README.md for what it does and ARCHITECTURE.md for how its parts fit.
"""

__version__ = "0.1.0"
