//! `walrelay check` on Redis: each condition is made, seen, mended by the printed fix, and gone.

use crate::harness::checked::Checked;
use crate::harness::redis::Redis;
use crate::harness::wait::{self, PATIENCE};
use crate::harness::world::World;

const MIB: i64 = 1_048_576;

/// Sees each at its level, pastes what is printed, and sees each OK.
async fn mend(world: &World, expected: &[(&str, &str)]) {
    let checked = world.check().await;
    for (object, level) in expected {
        checked.assert(object, level);
        world.paste_redis(&checked.fix(object)).await;
    }
    let mended = world.check().await;
    for (object, _) in expected.iter().filter(|(object, _)| mended.has(object)) {
        mended.assert(object, "OK");
    }
}

#[tokio::test]
async fn persistence_memory_and_replicas_are_told_and_mended_by_what_is_printed() {
    let world = World::new().await;
    for command in [
        "CONFIG SET appendonly no",
        "CONFIG SET maxmemory-policy allkeys-lru",
        "CONFIG SET maxmemory 1gb",
        "CONFIG SET min-replicas-to-write 1",
    ] {
        world.redis.run(command).await;
    }
    let policy = "setting maxmemory-policy";
    mend(
        &world,
        &[
            ("append-only file", "FAILURE"),
            (policy, "FAILURE"),
            ("setting min-replicas-to-write", "FAILURE"),
        ],
    )
    .await;
    world.redis.run("CONFIG SET appendfsync no").await;
    world.redis.run("CONFIG SET no-appendfsync-on-rewrite yes").await;
    world.redis.run("CONFIG SET maxmemory-policy allkeys-random").await;
    world.redis.run("CONFIG SET maxmemory 0").await;
    let rewrite = "setting no-appendfsync-on-rewrite";
    mend(&world, &[("append-only file", "FAILURE"), (policy, "WARNING"), (rewrite, "WARNING")])
        .await;
    world.redis.run("CONFIG SET maxmemory-policy volatile-lru").await;
    assert!(world.check().await.found(policy).1.contains("streams do not"));
    world.redis.run("CONFIG SET maxmemory-policy noeviction").await;
    let used = "used_memory";
    let info: String =
        redis::cmd("INFO").query_async(&mut world.redis.connection().await).await.unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix(&format!("{used}:"))).unwrap();
    let nearly: i64 = line.trim().parse::<i64>().unwrap().max(MIB) * 21 / 20;
    world.redis.run(&format!("CONFIG SET maxmemory {nearly}")).await;
    let checked = world.check().await;
    checked.assert("memory", "WARNING");
    let fix = checked.fix("memory");
    world.paste_redis(fix.lines().next().unwrap()).await;
    world.check().await.assert("memory", "OK");
}

#[tokio::test]
async fn replicas_that_durability_asks_for_and_a_replica_in_the_primarys_place() {
    let mut world = World::new().await;
    let second = Redis::start().await;
    world.settings = world.settings.with("durability", "replica:1");
    let checked = world.check().await;
    checked.assert("replicas", "FAILURE");
    let fix = checked.fix("replicas");
    second.run(fix.split("   #").next().unwrap()).await;
    wait::until("the replica is there", PATIENCE, async || {
        (world.check().await.found("replicas").0 == "OK").then_some(())
    })
    .await;
    let settings = world.settings.clone().with("redis_url", &second.url());
    let checked = Checked::of(&settings).await;
    checked.assert("replication role", "FAILURE");
    let primary =
        format!("RELAY_REDIS_URL=redis://USER:PASSWORD@127.0.0.1:{}/0", world.redis.port());
    assert_eq!(checked.fix("replication role"), primary);
    world.check().await.assert("replication role", "OK");

    drop(second);
    let cluster = Redis::start_with(&[("cluster-enabled", "yes")]).await;
    let settings = world.settings.clone().with("redis_url", &cluster.url());
    let checked = Checked::of(&settings).await;
    checked.assert("cluster mode", "FAILURE");
    assert!(checked.fix("cluster mode").starts_with("RELAY_REDIS_URL="));
    world.check().await.assert("cluster mode", "OK");
}

#[tokio::test]
async fn a_user_is_allowed_just_what_it_lacks_and_a_wrong_password_is_told() {
    let mut world = World::new().await;
    let password = "redis-Secret-43bb";
    let readme = include_str!("../../README.md");
    let line = readme.lines().find(|line| line.starts_with("ACL SETUSER walrelay ")).unwrap();
    world.redis.run(&line.replace("PASSWORD", password)).await;
    let port = world.redis.port();
    let superuser = world.settings.clone();
    let url = format!("redis://walrelay:{password}@127.0.0.1:{port}/0");
    world.settings = world.settings.with("redis_url", &url);
    let (acl, beside) = ("ACL of user walrelay", "ACL of user walrelay, beside the line");
    let checked = world.check().await;
    checked.assert(acl, "OK");
    assert!(!checked.has(beside), "the README's line is enough");
    assert!(checked.found("other checkpoints of identity.user.v1").1.contains("+scan"));
    let less = "ACL SETUSER walrelay resetkeys ~walrelay:* -hsetnx -xadd -info -config|get";
    world.redis.run(less).await;
    let checked = world.check().await;
    checked.assert(beside, "WARNING");
    assert_eq!(checked.found(acl).1, "lacks xadd, hsetnx, key identity.user.v1");
    checked.assert("setting max_slot_wal_keep_size", "WARNING");
    mend(&world, &[(acl, "FAILURE"), (beside, "WARNING")]).await;
    assert!(!world.check().await.has(beside));
    world.redis.run("ACL SETUSER walrelay resetkeys -@all +ping").await;
    mend(&world, &[(acl, "FAILURE")]).await;
    let mut relay = world.settings.start_ready().await;
    relay.drain().await;
    let wrong = format!("redis://walrelay:wrong-Secret-1@127.0.0.1:{port}/0");
    let checked = Checked::of(&superuser.with("redis_url", &wrong)).await;
    let server = format!("server 127.0.0.1:{port}");
    checked.assert(&server, "FAILURE");
    let told = format!("{:?} {}", checked.found(&server), checked.fix(&server));
    assert!(!told.contains("wrong-Secret-1") && told.contains("RELAY_REDIS_URL="), "{told}");
}
