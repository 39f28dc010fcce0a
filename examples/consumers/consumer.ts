// An idempotent consumer of a walrelay stream, with the package `redis` (node-redis 4.5 or newer).
//
//     STREAM=identity.user.v1 GROUP=mailer CONSUMER=mailer-1 node consumer.ts
//
// Node 22.18 and newer run this file as it is; before them `npm run build`, and `node consumer.js`.
//
// The relay writes each event once. What repeats an event is on this side of the stream: a consumer
// that dies between its work and XACK, an entry claimed from somebody who was only slow, a replay.
// So the effect and the memory of the event_id are one atomic step (APPLY); all else may happen
// twice. main.rs and consumer.py beside this file do the same under the same names.

import { hostname } from "node:os";
import { createClient } from "redis";

const env = (name: string, otherwise: string): string => process.env[name] || otherwise;
const STREAM = env("STREAM", "identity.user.v1");
const GROUP = env("GROUP", "mailer");
// Give it a name that stays over restarts: each new one stays in the group for ever.
const CONSUMER = env("CONSUMER", hostname());
// An entry that nobody acked for so long is taken over: its consumer is dead, or refused it. Longer
// than BATCH events can take, or the living are robbed (APPLY keeps each effect single even then).
const CLAIM_IDLE_MS = Number(env("CLAIM_IDLE_MS", "60000"));
const DELIVERIES_MAX = Number(env("DELIVERIES_MAX", "5"));
// How long an event_id is remembered: longer than an entry may stay unacked, or a replay come late.
const REMEMBER_S = 7 * 24 * 3600;
const BATCH = 16;
// SIGTERM waits for the read that is under way: one that is broken off may have been given entries.
const BLOCK_MS = Math.min(1_000, CLAIM_IDLE_MS);

const key = (name: string): string => `${STREAM}.${GROUP}.${name}`;

// Where the effect is in a database, this is one transaction there, begun by
// INSERT INTO seen (event_id) VALUES ($1) ON CONFLICT DO NOTHING: no row inserted, nothing to do.
// A script is not rolled back when a command in it fails: the memory comes last.
const APPLY = `
local before = redis.call('GET', KEYS[1])
if before == 'whole' or before == ARGV[4] then return 0 end
if not before then redis.call('HSET', KEYS[2], ARGV[2], ARGV[3]) end
if ARGV[4] == 'whole' then redis.call('RPUSH', KEYS[3], ARGV[1]) end
redis.call('SET', KEYS[1], ARGV[4], 'EX', ARGV[5])
return 1`;

// XADD first: where that fails the script ends, and the entry stays pending. MULTI would ack it all
// the same. XPENDING: what somebody else has settled meanwhile does not die a second time.
const BURY = `
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 3))
return redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])`;

type Fields = Record<string, string>;
type Event = { id: string; aggregate: string; replayed: boolean; payload: any };

// What happened and to which entry; never a payload.
const say = (text: string): void => console.error(`${CONSUMER}: ${text}`);

// JSON.parse reads numbers as doubles: an id above 2^53 has to be a string in the payload. Its own
// words for what is no JSON would quote it.
function parse(json: string): any {
  try {
    return JSON.parse(json);
  } catch {
    throw new Error("the entry is not JSON");
  }
}

// An entry in any of the three formats.
function eventOf(fields: Fields): Event {
  const { event_id: id, aggregate_id: aggregate } = fields;
  if (fields.data === undefined) { // entry_format = fields
    return { id, aggregate, replayed: fields.replayed === "true", payload: parse(fields.payload) };
  }
  const data = parse(fields.data);
  const replayed = data.replayed === true;
  return data.specversion // entry_format = cloudevents, else json
    ? { id: data.id, aggregate: data.subject, replayed, payload: data.data }
    : { id: data.event_id, aggregate: data.aggregate_id, replayed, payload: data.payload };
}

// What an entry asks for: arguments of APPLY. Whatever is thrown here is the event's fault.
function effectOf(fields: Fields): string[] {
  const { id, aggregate, replayed, payload } = eventOf(fields);
  if (typeof payload?.email !== "string") throw new Error("the payload has no email");
  // A replay rebuilds what is ours and sends no mail. It may come before the event itself, which
  // somebody who died was given: so the memory says how much was done.
  return [id, aggregate, payload.email, replayed ? "part" : "whole", String(REMEMBER_S)];
}

// Without reconnecting: a process that ends is started again by whoever watches over it, and what
// it had not acked is claimed.
const redis = createClient({
  url: env("REDIS_URL", "redis://127.0.0.1:6379"),
  socket: { reconnectStrategy: () => new Error("Redis is gone") },
});

// Applies and acks an entry, leaves it pending for another try, or buries it.
async function settle(id: string, fields: Fields, deliveries: number): Promise<void> {
  let effect: string[];
  try {
    if (deliveries > DELIVERIES_MAX) {
      // Nobody lived to say what is wrong with it: it may be what they died of.
      throw new Error(`delivered ${DELIVERIES_MAX} times, never finished`);
    }
    effect = effectOf(fields);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (deliveries < DELIVERIES_MAX) return say(`refused ${id}, delivery ${deliveries}: ${reason}`);
    return bury(id, fields, deliveries, reason);
  }
  // An error from here on is Redis's, not the event's: the process ends, the entry stays.
  const keys = [key(`seen:${effect[0]}`), key("users"), key("mails")];
  const isNew = await redis.eval(APPLY, { keys, arguments: effect });
  if (!isNew) say(`skipped ${id}: its event was applied before`);
  await redis.xAck(STREAM, GROUP, id);
}

async function bury(id: string, fields: Fields, attempts: number, reason: string): Promise<void> {
  const told = { entry_id: id, error_message: reason, attempts: String(attempts) };
  const letter = Object.entries({ ...fields, ...told }).flat();
  await redis.eval(BURY, { keys: [STREAM, key("dead")], arguments: [GROUP, id, ...letter] });
  say(`buried ${id} in ${key("dead")}: ${reason}`);
}

let stopping = false;
for (const name of ["SIGTERM", "SIGINT"]) process.on(name, () => (stopping = true));
redis.on("error", (error) => say(error.message));
await redis.connect();
try { // From 0: all that the stream has. MKSTREAM: the relay's first entry may be yet to come.
  await redis.xGroupCreate(STREAM, GROUP, "0", { MKSTREAM: true });
} catch (error) {
  if (!String(error).includes("BUSYGROUP")) throw error;
}
let cursor = "0-0";
while (!stopping) { // What was read is finished first: a stop leaves nothing behind.
  const few = { COUNT: BATCH };
  const left = await redis.xAutoClaim(STREAM, GROUP, CONSUMER, CLAIM_IDLE_MS, cursor, few);
  cursor = left.nextId;
  for (const entry of left.messages) {
    if (!entry) continue; // Trimmed while it was pending (Redis 6.2 tells it so).
    const options = { consumer: CONSUMER };
    const found = await redis.xPendingRange(STREAM, GROUP, entry.id, entry.id, 1, options);
    for (const { deliveriesCounter } of found) {
      say(`claimed ${entry.id}, delivery ${deliveriesCounter}`);
      await settle(entry.id, entry.message, deliveriesCounter);
    }
  }
  const unread = { key: STREAM, id: ">" };
  const read = await redis.xReadGroup(GROUP, CONSUMER, unread, { ...few, BLOCK: BLOCK_MS });
  for (const stream of read ?? []) {
    for (const { id, message } of stream.messages) await settle(id, message, 1);
  }
}
await redis.quit();
