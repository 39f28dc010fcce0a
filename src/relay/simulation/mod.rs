//! The line against a model PostgreSQL and a model Redis, with faults drawn from a seed.
//!
//! The code that decides is the product's own: [`Line`](super::line::Line) with its streams and
//! positions, the settler, and the judgement of checkpoints. `relay` drives them as a session does,
//! without sockets and clocks; `postgres` and `redis` are small models of the servers, `scripts`
//! has the rules of the Lua, and `parking` the parked rows and the pollers; `world` picks what
//! happens next; `ledger` knows what was committed and holds every step to it; `plan` says what
//! kind of run a seed is; `runs` are the tests.
//!
//! It must stay true that a seed decides everything: a run that fails is replayed by its seed, and
//! then tells its whole history.

mod faults;
mod history;
mod ledger;
mod parking;
mod plan;
mod postgres;
mod redis;
mod relay;
mod runs;
mod scripts;
mod walsender;
mod world;
