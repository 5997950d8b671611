"""The life of a gateway worker's process: answers, as fast as they go."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Sequence

import redis.asyncio as aredis
from redis.exceptions import RedisError

from core import redis_keys
from core.steps import Step
from tests.chaos.servers import Servers


async def serve(servers: Servers, at: Step, users: Sequence[str] = ()) -> None:
    """Stand-in."""
    client = aredis.Redis.from_url(servers.redis.url, decode_responses=True)
    lua = client.register_script("""
    if redis.call('HSETNX', KEYS[1], 'state', 'committed') == 1 then
    redis.call('HSET', KEYS[1], 'user', ARGV[1], 'tokens', ARGV[2])
    redis.call('HINCRBY', KEYS[2], 'cum', ARGV[2])
    local time = redis.call('TIME')
    redis.call('ZADD', KEYS[3], 'NX', time[1]*1000, ARGV[1])
    end""")
    while True:
        user = random.choice(users or [user.address.lower() for user in servers.market.users])
        rid, tokens = secrets.token_hex(8), random.randint(1, 1000)
        at("before_commit")
        while True:
            try:
                servers.record.write("most", rid, user, tokens)
                await lua(
                    keys=[redis_keys.charge(rid), redis_keys.credit(user), redis_keys.OUTSTANDING], args=[user, tokens]
                )
                break
            except RedisError:
                await asyncio.sleep(0.05)
        at("committed")
        servers.record.write("delivered", rid, user, tokens)
        at("delivered")
        await asyncio.sleep(0.02)


async def close_books(servers: Servers, at: Step) -> None:
    """Stand-in."""
    await asyncio.sleep(1000)
