"""Host names to addresses: shared while looked up, anew for each connection, and the last ones if DNS fails."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from switch_proxy.core.events import NameResolved, NameUnresolved
from switch_proxy.core.known_name import PATIENCE, USED_FOR
from switch_proxy.resolver import Resolver, look_up
from tests.manual_clock import until

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from switch_proxy.core.events import NameEvent
    from switch_proxy.core.known_name import SocketAddress

FIRST, SECOND = ("192.0.2.1", 0), ("192.0.2.2", 0)


_T = TypeVar("_T")


class Names:
    """A name service that responds at once, with an error, or not at all; with a resolver that asks it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked: list[str] = []
        self.answer: tuple[SocketAddress, ...] | Exception | None = (FIRST,)
        """None: no response."""
        self.responds = threading.Event()
        self.events: list[NameEvent] = []
        self.resolver = Resolver(
            used_by="route api", now=lambda: self.now, observe=self.events.append, look_up=self.look_up
        )

    def look_up(self, host: str) -> tuple[SocketAddress, ...]:
        self.asked.append(host)
        if self.answer is None:
            self.responds.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        assert self.answer is not None
        return self.answer

    async def resolve(self, host: str = "api.example.com", port: int = 443) -> list[str]:
        """Return the addresses found."""
        return [str(found[4][0]) for found in await self.resolver.resolve(host, port)]

    async def until_looked_up(self) -> None:
        """Wait until no look-up is under way."""
        await until(lambda: not any(name.call.is_under_way for name in self.resolver._names.values()))


@pytest.fixture
def names() -> Iterator[Names]:
    names = Names()
    yield names
    names.answer = names.answer or ()
    names.responds.set()


def begin(asked: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
    return asyncio.create_task(asked)  # noqa: TID251 - awaited or cancelled by the test


FAILURE = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
DENIAL = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


async def test_each_connection_asks_anew(names: Names) -> None:
    assert await names.resolve() == ["192.0.2.1"]
    names.answer = (SECOND,)
    assert await names.resolve() == ["192.0.2.2"]
    assert len(names.asked) == 2
    assert names.events == []


async def test_addresses_of_both_families_come_as_the_system_takes_them(names: Names) -> None:
    names.answer = (FIRST, ("2001:db8::1", 0, 0, 3))
    assert await names.resolver.resolve("api.example.com", 8443) == [
        (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("192.0.2.1", 8443)),
        (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("2001:db8::1", 8443, 0, 3)),
    ]


@pytest.mark.parametrize("host", ["192.0.2.9", "2001:db8::9"])
async def test_for_an_address_nobody_is_asked(names: Names, host: str) -> None:
    assert await names.resolve(host) == [host]
    assert names.asked == []


async def test_one_look_up_serves_all_who_wait(names: Names) -> None:
    names.answer = None
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(names.resolve()) for _ in range(100)]
        await until(lambda: names.asked)
        names.answer = (FIRST,)
        names.responds.set()
    assert [each.result() for each in waiting] == [["192.0.2.1"]] * 100
    assert len(names.asked) == 1


async def test_a_name_that_hangs_holds_up_no_other_name(names: Names) -> None:
    names.answer = None
    hanging = [begin(names.resolve("hangs.example.com")) for _ in range(20)]
    await until(lambda: names.asked)
    names.answer = (SECOND,)
    assert await names.resolve("other.example.com") == ["192.0.2.2"]
    for each in hanging:
        each.cancel()


async def test_while_dns_fails_the_last_addresses_are_used_at_once_and_a_newer_look_up_is_for_the_next(
    names: Names,
) -> None:
    await names.resolve()
    names.answer = FAILURE
    assert await names.resolve() == ["192.0.2.1"]
    assert await names.resolve() == ["192.0.2.1"]
    await names.until_looked_up()
    names.answer = (SECOND,)
    assert await names.resolve() == ["192.0.2.1"]
    await names.until_looked_up()
    assert await names.resolve() == ["192.0.2.2"]
    assert names.events == [
        NameUnresolved(
            host="api.example.com",
            used_by="route api",
            error="Temporary failure in name resolution",
            has_last_good=True,
        ),
        NameResolved(host="api.example.com", used_by="route api"),
    ]


async def test_while_dns_does_not_respond_the_last_addresses_are_used_for_a_bounded_time(names: Names) -> None:
    await names.resolve()
    names.answer = None
    begun = begin(names.resolve())
    await until(lambda: len(names.asked) == 2)
    # One look-up has hung for so long: whoever comes now waits no longer.
    names.now = PATIENCE
    assert await names.resolve() == ["192.0.2.1"]
    assert await begun == ["192.0.2.1"]
    names.now = USED_FOR - 0.1
    assert await names.resolve() == ["192.0.2.1"]
    names.now = USED_FOR
    late = begin(names.resolve())
    await asyncio.wait([late], timeout=0.05)
    assert not late.done()
    names.answer = (SECOND,)
    names.responds.set()
    assert await late == ["192.0.2.2"]
    assert [(type(event), getattr(event, "error", "")) for event in names.events] == [
        (NameUnresolved, "DNS has not responded for 1.8 seconds"),
        (NameResolved, ""),
    ]


async def test_a_name_that_dns_denies_is_an_error_at_once(names: Names) -> None:
    """RFC 8767 §4: that is a response. A connection to where the name pointed would reach somebody else."""
    await names.resolve()
    names.answer = DENIAL
    for _ in range(2):
        with pytest.raises(socket.gaierror, match="not known"):
            await names.resolve()
    assert names.events == [
        NameUnresolved(
            host="api.example.com", used_by="route api", error="Name or service not known", has_last_good=False
        )
    ]


async def test_a_failure_without_addresses_is_an_error(names: Names) -> None:
    names.answer = FAILURE
    with pytest.raises(socket.gaierror, match="Temporary failure"):
        await names.resolve()


async def test_names_that_change_all_the_time_take_no_more_than_a_few_threads(names: Names) -> None:
    """An authorization server's metadata may name another endpoint each time."""
    for number in range(20):
        await names.resolve(f"login-{number}.example.com")
    assert len(names.resolver._names) == 4
    names.answer = None
    hanging = [begin(names.resolve(f"hangs-{number}.example.com")) for number in range(4)]
    await until(lambda: len(names.asked) == 24)
    with pytest.raises(socket.gaierror, match="4 other names"):
        await names.resolve("one-more.example.com")
    for each in hanging:
        each.cancel()


def test_the_system_resolves_localhost() -> None:
    assert {address[0] for address in look_up("localhost")} <= {"127.0.0.1", "::1"}


def test_what_is_no_host_name_is_an_error_of_the_resolver() -> None:
    with pytest.raises(socket.gaierror, match="longer than 63"):
        look_up("a" * 64 + ".example.com")
