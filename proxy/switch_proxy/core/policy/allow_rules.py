"""
What a route forwards, if it has rules: the methods and paths that one of them allows, and nothing else.

A path is held against the rules as every server reads it. One that servers read in more than one way is refused, whatever
the rules, because a rule could be passed by in a reading that is not the proxy's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from switch_proxy.core.http.problems import Problem, Reject
from switch_proxy.core.policy.paths import canonical_path, find_ambiguity, is_plain, path_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switch_proxy.core.http.request import RequestHead
    from switch_proxy.core.path_pattern import PathPattern


_REMEMBERED: Final = 256
_LONGEST_REMEMBERED: Final = 512
"""As many requests, of as many bytes, are remembered as allowed; the memory is emptied when full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowRule:
    """Methods, None for every one, and the patterns of the paths at which they are allowed. GET allows HEAD too."""

    methods: tuple[str, ...] | None
    paths: tuple[PathPattern, ...]

    def __str__(self) -> str:
        return f"{_listed(self.methods)} at {', '.join(map(str, self.paths))}"

    def allows(self, method: str) -> bool:
        """Say whether the rule is for a method."""
        return self.methods is None or method in self.methods or (method == "HEAD" and "GET" in self.methods)


class AllowRules:
    """The rules of one route, compiled: for each method one expression of all its paths."""

    __slots__ = ("_allowed", "_by_method", "_owner", "_rules")

    def __init__(self, rules: Sequence[AllowRule], *, owner: str) -> None:
        """Compile; `owner` is whose rules these are, for messages."""
        self._rules = [(rule, _compile([rule])) for rule in rules]
        self._owner = owner
        self._allowed: set[bytes] = set()
        """Methods and paths, as received, that have been found allowed."""
        named = {method for rule in rules for method in rule.methods or ()} | {"HEAD"}
        self._by_method = {
            method.encode("ascii"): _compile([rule for rule in rules if rule.allows(method)]) for method in named
        }
        # A method that no rule names is allowed by those that are for every one.
        self._by_method[b""] = _compile([rule for rule in rules if rule.methods is None])

    def judge(self, head: RequestHead, target: bytes) -> Reject | None:
        """Return the refusal of a request, None if a rule allows it; `target` is the one below the route's upstream."""
        override = head.meaning.override
        if override is not None:
            return self._refuse(f"the header {override.decode('ascii')}, by which servers take another method or path")
        path = path_of(target)
        # Neither has a slash but the path, which begins with one.
        key = head.method + path
        if key in self._allowed:
            return None
        if not is_plain(path):
            ambiguity = find_ambiguity(path)
            if ambiguity is not None:
                return self._refuse(f"{ambiguity} in its path, which servers read in more than one way")
            path = canonical_path(path)
        by_method = self._by_method
        expression = by_method.get(head.method) or by_method[b""]
        if expression.fullmatch(path) is None:
            return self._refuse_path(head.method, path)
        if len(key) <= _LONGEST_REMEMBERED:
            if len(self._allowed) >= _REMEMBERED:
                self._allowed.clear()
            self._allowed.add(key)
        return None

    def find(self, method: bytes, target: bytes) -> AllowRule | None:
        """Return the first rule that allows a request, None if none does; `target` is read alike by all servers."""
        path = canonical_path(path_of(target))
        return next(
            (
                rule
                for rule, expression in self._rules
                if rule.allows(method.decode("ascii")) and expression.fullmatch(path) is not None
            ),
            None,
        )

    def find_all(self, method: bytes, target: bytes) -> list[int]:
        """Return the indexes of all rules that are for a request."""
        path = canonical_path(path_of(target))
        return [
            index
            for index, (rule, expression) in enumerate(self._rules)
            if rule.allows(method.decode("ascii")) and expression.fullmatch(path) is not None
        ]

    def _refuse(self, why: str) -> Reject:
        return Reject(
            problem=Problem.REQUEST_NOT_ALLOWED,
            detail=f"the request has {why}; {self._owner} has rules (allow), and refuses what could pass them by",
        )

    def _refuse_path(self, method: bytes, path: bytes) -> Reject:
        at_path = [rule for rule, expression in self._rules if expression.fullmatch(path) is not None]
        named = [method for rule in at_path for method in rule.methods or ()]
        methods = dict.fromkeys(
            each for method in named for each in (("GET", "HEAD") if method == "GET" else (method,))
        )
        allowed = (
            f"{', '.join(methods)} at this path, not {method.decode('ascii')}" if methods else "nothing at this path"
        )
        return Reject(problem=Problem.REQUEST_NOT_ALLOWED, detail=f"the rules (allow) of {self._owner} allow {allowed}")


def _compile(rules: Sequence[AllowRule]) -> re.Pattern[bytes]:
    patterns = [pattern.expression for rule in rules for pattern in rule.paths]
    # Without a pattern, nothing matches.
    return re.compile("|".join(patterns).encode("ascii") if patterns else rb"(?!)")


def _listed(methods: Sequence[str] | None) -> str:
    return "every method" if methods is None else ", ".join(methods)
