"""How many connections there may be: of clients to a listener, and to all upstreams together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from switch_proxy.http1.route import Route
from switch_proxy.http1.upstream_budget import UpstreamBudget
from tests.shell.http1.test_pool import GET, busy, finish

if TYPE_CHECKING:
    from tests.shell.http1.conftest import StartWorld
    from tests.shell.http1.world import World


async def test_one_client_too_many_waits_until_another_has_gone(start_world: StartWorld) -> None:
    world = await start_world(most_clients=2)
    (first, its_server), (second, other_server) = await busy(world, 2)
    third = await world.client()
    await third.send(GET)
    # The listener has nothing to do with it: the ones that are there are served.
    await finish(first, its_server)
    await first.send(GET)
    await its_server.receive_head()
    await finish(first, its_server)
    assert world.snapshot().client_connections == 2
    await finish(second, other_server)
    second.socket.close()
    await world.until(lambda now: now.requests_in_flight == 1)
    await other_server.receive_head()
    await finish(third, other_server)


async def test_while_others_wait_an_idle_client_is_kept_for_seconds_alone(start_world: StartWorld) -> None:
    """Its pool of connections would keep them out for as long as `timeouts.keep_alive`."""
    world = await start_world(most_clients=1)
    ((idle, server),) = await busy(world, 1)
    await finish(idle, server)
    waiting = await world.client()
    await waiting.send(GET)
    world.pass_time(4.9)
    await asyncio.sleep(0)
    assert world.snapshot().client_connections == 1
    world.pass_time(0.2)
    assert await idle.receive_to_end() == b""
    await server.receive_head()
    await finish(waiting, server)


def another_route(world: World, budget: UpstreamBudget) -> Route:
    """Return a route to the same upstream, with connections of its own."""
    return Route(world.route.model, tokens=world.tokens, clock=world.clock, budget=budget)


async def test_a_connection_that_is_idle_makes_room_for_one_of_another_route(start_world: StartWorld) -> None:
    budget = UpstreamBudget(2)
    world = await start_world(budget=budget)
    for client, server in await busy(world, 2):
        await finish(client, server)
    assert world.snapshot().upstream_idle == 2
    connection = await another_route(world, budget).pool.acquire()
    await world.until(lambda now: now.upstream_idle == 1)
    connection.close()


async def test_if_none_is_idle_one_is_opened_nevertheless(start_world: StartWorld) -> None:
    """No request is refused because of it: the bound on clients is what keeps descriptors."""
    budget = UpstreamBudget(1)
    world = await start_world(budget=budget)
    ((client, server),) = await busy(world, 1)
    connection = await another_route(world, budget).pool.acquire()
    assert not connection.is_closed
    connection.close()
    await finish(client, server)
