#!/usr/bin/env python3
"""An idempotent consumer of a walrelay stream, with redis-py (4.3 or newer) and nothing else.

    STREAM=identity.user.v1 GROUP=mailer CONSUMER=mailer-1 python3 consumer.py

The relay writes each event once. What repeats an event is on this side of the stream: a consumer
that dies between its work and XACK, an entry claimed from somebody who was only slow, a replay. So
the effect and the memory of the event_id are one atomic step (APPLY); all else may happen twice.
main.rs and consumer.ts beside this file do the same under the same names.
"""

import json
import os
import signal
import socket
import sys

import redis

STREAM = os.environ.get("STREAM") or "identity.user.v1"
GROUP = os.environ.get("GROUP") or "mailer"
# Give it a name that stays over restarts: each new one stays in the group for ever.
CONSUMER = os.environ.get("CONSUMER") or socket.gethostname()
# An entry that nobody acked for so long is taken over: its consumer is dead, or refused it. Longer
# than BATCH events can take, or the living are robbed (APPLY keeps each effect single even then).
CLAIM_IDLE_MS = int(os.environ.get("CLAIM_IDLE_MS") or 60_000)
DELIVERIES_MAX = int(os.environ.get("DELIVERIES_MAX") or 5)
# How long an event_id is remembered: longer than an entry may stay unacked, or a replay come late.
REMEMBER_S = 7 * 24 * 3600
BATCH = 16
# SIGTERM waits for the read that is under way: one that is broken off may have been given entries.
BLOCK_MS = min(1_000, CLAIM_IDLE_MS)

NAMES = ("seen", "users", "mails", "dead")
SEEN, USERS, MAILS, DEAD = (f"{STREAM}.{GROUP}.{name}" for name in NAMES)

# Where the effect is in a database, this is one transaction there, begun by
# INSERT INTO seen (event_id) VALUES ($1) ON CONFLICT DO NOTHING: no row inserted, nothing to do.
# A script is not rolled back when a command in it fails: the memory comes last.
APPLY = """
local before = redis.call('GET', KEYS[1])
if before == 'whole' or before == ARGV[4] then return 0 end
if not before then redis.call('HSET', KEYS[2], ARGV[2], ARGV[3]) end
if ARGV[4] == 'whole' then redis.call('RPUSH', KEYS[3], ARGV[1]) end
redis.call('SET', KEYS[1], ARGV[4], 'EX', ARGV[5])
return 1
"""

# XADD first: where that fails the script ends, and the entry stays pending. MULTI would ack it all
# the same. XPENDING: an entry that somebody else has settled meanwhile does not die a second time.
BURY = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 3))
return redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
"""


def say(text):
    """What happened and to which entry; never a payload."""
    print(f"{CONSUMER}: {text}", file=sys.stderr, flush=True)


def event_of(fields):
    """event_id, aggregate_id, replayed and payload of an entry in any of the three formats."""
    if "data" not in fields:  # entry_format = fields
        payload = json.loads(fields["payload"])
        return fields["event_id"], fields["aggregate_id"], fields.get("replayed") == "true", payload
    data = json.loads(fields["data"])
    replayed = data.get("replayed", False)
    if "specversion" in data:  # entry_format = cloudevents
        return data["id"], data["subject"], replayed, data["data"]
    return data["event_id"], data["aggregate_id"], replayed, data["payload"]


def effect_of(fields):
    """What an entry asks for: arguments of APPLY. Whatever is raised here is the event's fault."""
    event_id, aggregate_id, replayed, payload = event_of(fields)
    email = payload.get("email") if isinstance(payload, dict) else None
    if not isinstance(email, str):
        raise ValueError("the payload has no email")
    # A replay rebuilds what is ours and sends no mail. It may come before the event itself, which
    # somebody who died was given: so the memory says how much was done.
    return [event_id, aggregate_id, email, "part" if replayed else "whole", REMEMBER_S]


class Consumer:
    def __init__(self):
        url = os.environ.get("REDIS_URL") or "redis://127.0.0.1:6379"
        self.redis = redis.Redis.from_url(url, decode_responses=True)
        self.apply, self.bury = (self.redis.register_script(text) for text in (APPLY, BURY))
        self.cursor = "0-0"
        self.stopping = False
        # From 0: all that the stream has. MKSTREAM: the relay's first entry may be yet to come.
        try:
            self.redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def turn(self):
        """Takes over what others left behind, then reads what is new, and settles all of it."""
        reply = self.redis.xautoclaim(
            STREAM, GROUP, CONSUMER, CLAIM_IDLE_MS, start_id=self.cursor, count=BATCH
        )
        self.cursor = reply[0]
        for entry_id, fields in reply[1]:
            if entry_id is None:  # Trimmed while it was pending (Redis 6.2 tells it so).
                continue
            pending = self.redis.xpending_range(STREAM, GROUP, entry_id, entry_id, 1, CONSUMER)
            for entry in pending:
                say(f"claimed {entry_id}, delivery {entry['times_delivered']}")
                self.settle(entry_id, fields, entry["times_delivered"])
        new = self.redis.xreadgroup(GROUP, CONSUMER, {STREAM: ">"}, count=BATCH, block=BLOCK_MS)
        for entry_id, fields in dict(new or ()).get(STREAM, ()):
            self.settle(entry_id, fields, 1)

    def settle(self, entry_id, fields, deliveries):
        """Applies and acks an entry, leaves it pending for another try, or buries it."""
        try:
            if deliveries > DELIVERIES_MAX:
                # Nobody lived to say what is wrong with it: it may be what they died of.
                raise RuntimeError(f"delivered {DELIVERIES_MAX} times, never finished")
            effect = effect_of(fields)
        except Exception as error:
            if deliveries < DELIVERIES_MAX:
                say(f"refused {entry_id}, delivery {deliveries}: {error!r}")
            else:
                self.give_up(entry_id, fields, deliveries, error)
            return
        # An error from here on is Redis's, not the event's: the process ends, the entry stays.
        if not self.apply(keys=[f"{SEEN}:{effect[0]}", USERS, MAILS], args=effect):
            say(f"skipped {entry_id}: its event was applied before")
        self.redis.xack(STREAM, GROUP, entry_id)

    def give_up(self, entry_id, fields, deliveries, error):
        told = {"entry_id": entry_id, "error_message": str(error), "attempts": deliveries}
        letter = [part for pair in {**fields, **told}.items() for part in pair]
        self.bury(keys=[STREAM, DEAD], args=[GROUP, entry_id, *letter])
        say(f"buried {entry_id} in {DEAD}: {error!r}")


def main():
    consumer = Consumer()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: setattr(consumer, "stopping", True))
    while not consumer.stopping:  # What was read is finished first: a stop leaves nothing behind.
        consumer.turn()


if __name__ == "__main__":
    main()
