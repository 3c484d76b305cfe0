"""The ``tls=`` field of the delivery log line (3.11): what was asked of TLS for the last server, and what came of it.

Two features, each with a name and a verdict: the security level, and REQUIRETLS where the sender asked for it. A
feature is undecided (``may?``) until its end is known; it may end under another name (``may:none``), and it may be
violated (``!secure``). See spec 1.8, 8.13 and pol_stats(3).
"""

from dataclasses import dataclass, field

from postfixpy.tls.level import Level, level_name

REQUIRETLS, NO_MATCH, NO_STARTTLS, NO_ENCRYPTION, NONE = (
    "requiretls",
    "nocertmatch",
    "nostarttls",
    "noencryption",
    "none",
)


@dataclass(slots=True)
class _Feature:
    first: str
    final: str = ""
    violated: bool | None = None

    def __str__(self) -> str:
        mark = "!" if self.violated else ""
        final = f":{self.final}" if self.final and self.final != self.first else ""
        question = "?" if self.violated is None else ""
        return f"{mark}{self.first}{final}{question}"


@dataclass(slots=True)
class TLSStatus:
    """The features for one server; str() is the field's value. `enabled`: whether the log has the field at all."""

    enabled: bool = True
    _level: _Feature | None = field(default=None)
    _requiretls: _Feature | None = field(default=None)

    def start(self, requiretls: bool) -> None:
        """A server's policy is about to be evaluated; `requiretls`: whether the sender's demand counts there."""
        self._level = None
        self._requiretls = _Feature(REQUIRETLS) if requiretls else None

    def expect(self, level: Level | None) -> None:
        """The level that the policy asks for; None if there is no policy."""
        self._level = _Feature("unknown" if level is None else level_name(level))

    def decide_level(self, level: Level, *, violated: bool = False) -> None:
        """The level that it came to."""
        self._decide(self._level, level_name(level), violated)

    def decide_requiretls(self, name: str, *, violated: bool = False) -> None:
        """What became of the sender's demand, if there was one."""
        self._decide(self._requiretls, name, violated)

    @staticmethod
    def _decide(feature: _Feature | None, name: str, violated: bool) -> None:
        if feature is not None:
            feature.final, feature.violated = name, violated

    def __str__(self) -> str:
        if not self.enabled:
            return ""
        return "/".join(str(feature) for feature in (self._level, self._requiretls) if feature is not None)
