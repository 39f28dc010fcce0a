#!/usr/bin/env bash
# Records what a real PostgreSQL sends through pgoutput, protocol version 1: one file per scenario,
# one message per line, in hex. src/pgoutput/golden.rs reads them.
#
#   tests/golden/pgoutput/record.sh [directory of the server's programs]
#   UPDATE_GOLDEN=1 cargo test --lib pgoutput::golden      # then read the diff of the .txt files
#
# Starts a server of its own in a temporary directory, without TCP, and leaves nothing behind. As
# root it runs the server as the account postgres, because PostgreSQL refuses root.
set -euo pipefail

bin=${1:-$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)}
major=$("$bin/postgres" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
golden=$(cd "$(dirname "$0")" && pwd)/$major
room=$(mktemp -d)
as=()
if [ "$(id -u)" = 0 ]; then
    as=(runuser -u postgres --)
    chown postgres "$room"
fi
server() { (cd "$room" && "${as[@]}" "$bin/$@"); }
trap 'server pg_ctl -D "$room/data" -m immediate stop >/dev/null 2>&1 || true; rm -rf "$room"' EXIT

server initdb -D "$room/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >/dev/null
server pg_ctl -D "$room/data" -w -l "$room/log" -o "-k $room -c listen_addresses='' -c fsync=off \
    -c wal_level=logical -c autovacuum=off" start >/dev/null || { cat "$room/log" >&2; exit 1; }

export PGCLIENTENCODING=UTF8
sql() { psql -X -q -A -t -v ON_ERROR_STOP=1 -h "$room" -U postgres -d "$1"; }
rm -rf "$golden"
mkdir -p "$golden"

# record <scenario> <before the slot> <what is recorded> [more options of the plugin]
# A database each, so that OIDs and publications of one scenario do not move those of another.
record() {
    local name=$1 before=$2 changes=$3 options=${4:-}
    echo "CREATE DATABASE $name" | sql postgres
    sql "$name" <<SQL >/dev/null
CREATE SCHEMA identity;
CREATE TABLE identity.outbox
    (id bigint PRIMARY KEY, event_type varchar(80) NOT NULL, payload jsonb);
CREATE TABLE identity.elsewhere (id int);
CREATE PUBLICATION p FOR TABLE identity.outbox;
$before
SELECT pg_create_logical_replication_slot('$name', 'pgoutput');
SQL
    # A message outside a transaction is not flushed by itself, and only what is flushed is decoded.
    sql "$name" >/dev/null <<<"$changes CHECKPOINT;"
    sql "$name" >"$golden/$name.hex" <<SQL
SELECT encode(data, 'hex') FROM pg_logical_slot_get_binary_changes('$name', NULL, NULL,
    'proto_version', '1', 'publication_names', 'p', 'messages', 'true' $options);
SQL
    echo "SELECT pg_drop_replication_slot('$name')" | sql "$name" >/dev/null
}

row="INSERT INTO identity.outbox VALUES"

record insert "" "
    BEGIN;
    $row (1, 'user.created', '{\"name\": \"Zoë\"}');
    $row (2, 'user.deleted', NULL);
    $row (3, '', '{}');
    COMMIT;
    $row (4, 'user.created', '{}');"

record insert_binary "" "$row (1, 'user.created', '{\"a\": 1}'), (2, 'user.deleted', NULL);" \
    ", 'binary', 'true'"

record savepoint_and_rollback "" "
    BEGIN; $row (1, 'kept', '{}'); SAVEPOINT s; $row (2, 'undone', '{}'); ROLLBACK TO s;
    $row (3, 'kept', '{}'); COMMIT;
    BEGIN; $row (4, 'undone', '{}'); ROLLBACK;"

record columns_altered "" "
    $row (1, 'before', '{}');
    ALTER TABLE identity.outbox ADD COLUMN topic text;
    $row (2, 'added', '{}', 'users');
    ALTER TABLE identity.outbox RENAME COLUMN event_type TO kind;
    $row (3, 'renamed', '{}', 'users');
    ALTER TABLE identity.outbox DROP COLUMN payload;
    $row (4, 'dropped', 'users');
    ALTER TABLE identity.outbox ADD COLUMN payload jsonb;
    $row (5, 'added again, so reordered', 'users', '{}');
    ALTER TABLE identity.outbox ALTER COLUMN kind TYPE text;
    $row (6, 'another type', 'users', '{}');
    BEGIN; $row (7, 'same transaction', 'users', '{}');
    ALTER TABLE identity.outbox ADD COLUMN late int DEFAULT 7;
    $row (8, 'same transaction', 'users', '{}'); COMMIT;"

record table_renamed "" "
    $row (1, 'before', '{}');
    ALTER TABLE identity.outbox RENAME TO postbox;
    INSERT INTO identity.postbox VALUES (2, 'renamed', '{}');
    CREATE SCHEMA moved; ALTER TABLE identity.postbox SET SCHEMA moved;
    INSERT INTO moved.postbox VALUES (3, 'moved', '{}');"

record column_list "ALTER PUBLICATION p SET TABLE identity.outbox (id, payload);" \
    "$row (1, 'not published', '{}');"

record no_columns "CREATE TABLE identity.bare (); ALTER PUBLICATION p SET TABLE identity.bare;" \
    "INSERT INTO identity.bare DEFAULT VALUES;"

record unusual_names '
    CREATE SCHEMA "Identität ""x"""; CREATE TABLE "Identität ""x"""."out.box 📮" ("id é" int);
    ALTER PUBLICATION p SET TABLE "Identität ""x"""."out.box 📮";' \
    'INSERT INTO "Identität ""x"""."out.box 📮" VALUES (1);'

partitioned="
    CREATE TABLE identity.parted (id int, day date) PARTITION BY RANGE (day);
    CREATE TABLE identity.parted_1 PARTITION OF identity.parted
        FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
    CREATE TABLE identity.parted_2 (day date, id int);
    ALTER TABLE identity.parted ATTACH PARTITION identity.parted_2
        FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
    ALTER PUBLICATION p SET TABLE identity.parted;"
into_partitions="INSERT INTO identity.parted VALUES (1, '2024-01-15'), (2, '2024-02-15');"
record partitions_by_themselves "$partitioned" "$into_partitions"
record partitions_via_root "$partitioned ALTER PUBLICATION p SET (publish_via_partition_root);" \
    "$into_partitions"

big="repeat('x', 3000)"
toast="ALTER TABLE identity.outbox ALTER COLUMN payload TYPE text;
    ALTER TABLE identity.outbox ALTER COLUMN payload SET STORAGE EXTERNAL;"
record update "$row (1, 'a', '{}');" "
    UPDATE identity.outbox SET event_type = 'b';
    UPDATE identity.outbox SET id = 2;"
record update_unchanged_toast "$toast $row (1, 'a', $big);" \
    "UPDATE identity.outbox SET event_type = 'b';"
record update_identity_full "
    ALTER TABLE identity.outbox REPLICA IDENTITY FULL; $row (1, 'a', NULL);" \
    "UPDATE identity.outbox SET event_type = 'b';"
record update_identity_nothing "ALTER TABLE identity.outbox REPLICA IDENTITY NOTHING;
    ALTER PUBLICATION p SET (publish = 'insert');" "$row (1, 'a', '{}');"
record update_identity_index "CREATE UNIQUE INDEX i ON identity.outbox (event_type);
    ALTER TABLE identity.outbox REPLICA IDENTITY USING INDEX i; $row (1, 'a', '{}');" \
    "UPDATE identity.outbox SET event_type = 'b';"

record delete "$row (1, 'a', '{}');" "DELETE FROM identity.outbox;"
record delete_identity_full "
    ALTER TABLE identity.outbox REPLICA IDENTITY FULL; $row (1, 'a', NULL);" \
    "DELETE FROM identity.outbox;"

record truncate "
    CREATE TABLE identity.child (id bigint REFERENCES identity.outbox);
    ALTER PUBLICATION p ADD TABLE identity.child;" "
    TRUNCATE identity.child;
    TRUNCATE identity.outbox RESTART IDENTITY CASCADE;"

record types_of_our_own "
    CREATE DOMAIN identity.email AS text CHECK (VALUE LIKE '%@%');
    CREATE TYPE identity.mood AS ENUM ('glad', 'sad');
    CREATE TABLE identity.typed (e identity.email, m identity.mood, n numeric(10, 2), a int[]);
    ALTER PUBLICATION p SET TABLE identity.typed;" \
    "INSERT INTO identity.typed VALUES ('a@b', 'glad', 1.5, '{1,2}');"

record origin "SELECT pg_replication_origin_create('another server');" "
    SELECT pg_replication_origin_session_setup('another server');
    BEGIN;
    SELECT pg_replication_origin_xact_setup('16/B374D848', '2024-01-02 03:04:05+00');
    $row (1, 'a', '{}');
    COMMIT;"
echo "SELECT pg_replication_origin_drop('another server')" | sql postgres >/dev/null

record logical_messages "" "
    BEGIN; SELECT pg_logical_emit_message(true, 'walrelay', 'inside'); $row (1, 'a', '{}'); COMMIT;
    SELECT pg_logical_emit_message(false, 'walrelay', 'outside');
    SELECT pg_logical_emit_message(true, '', ''::bytea);
    SELECT pg_logical_emit_message(false, 'bytes', '\\x00ff27'::bytea);"

record unpublished_transaction "" "INSERT INTO identity.elsewhere VALUES (1);"

echo "recorded $(ls "$golden" | wc -l) scenarios from PostgreSQL $major in $golden"
