//! The tables and their version; thrown away and filled anew when in doubt.

use rusqlite::{Connection, TransactionBehavior};

/// Changes with every change of the tables or of the meaning of what they hold.
const VERSION: i64 = 4;

/// One row per (directory, name, set): a version. A set's rows have consecutive ids in path order,
/// so a set is one run. `directories` gives each path that ever was a directory of a chain one id.
const TABLES: &str = "
CREATE TABLE chains(
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- part of the ids of its versions and directories
    full_time INTEGER NOT NULL);    -- seconds since 1970 of its full set
CREATE TABLE sets(
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- counted across chains; part of the ids of its volumes
    chain INTEGER NOT NULL,
    position INTEGER NOT NULL,      -- 0 is the full set
    identity BLOB NOT NULL,         -- of the listed manifest and signature file
    first_version INTEGER,          -- its rows of `versions`, half-open; NULL until they are there
    end_version INTEGER,
    left_out TEXT,                  -- why a path of it has no row, if one has none
    source BLOB,                    -- of its rows: NULL the signature file; empty the volumes; x'00' the signature file, though nothing confirms it; else which copy of the signature file
    UNIQUE(chain, position));
CREATE TABLE distrusted(            -- sets whose volumes contradict their signature file
    identity BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE signatures(            -- what a signature file holds as a whole, by the manifest of its set
    manifest BLOB PRIMARY KEY,      -- of the listed manifest
    hash BLOB NOT NULL,             -- of the plain bytes
    stored BLOB, copy BLOB) WITHOUT ROWID; -- of the files that are known to hold them
CREATE TABLE owners(
    id INTEGER PRIMARY KEY,
    uid INTEGER NOT NULL, gid INTEGER NOT NULL, user BLOB NOT NULL, grp BLOB NOT NULL,
    UNIQUE(uid, gid, user, grp));
CREATE TABLE directories(
    id INTEGER PRIMARY KEY,
    parent INTEGER NOT NULL,        -- a negative chain id above the root
    name BLOB NOT NULL);
CREATE UNIQUE INDEX directories_by_name ON directories(parent, name);
CREATE TABLE versions(
    id INTEGER PRIMARY KEY,
    directory INTEGER NOT NULL,
    name BLOB NOT NULL,
    position INTEGER NOT NULL,      -- the set that brought it
    kind INTEGER NOT NULL,
    mode INTEGER NOT NULL,
    owner INTEGER NOT NULL,
    mtime INTEGER NOT NULL,
    extra,                          -- a directory's id, a link's target, a device's numbers
    size INTEGER);                  -- of a file, when a volume has told it
CREATE UNIQUE INDEX versions_by_name ON versions(directory, name, position);
CREATE TABLE volumes(
    id INTEGER PRIMARY KEY,
    set_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    plain_length INTEGER, stored_length INTEGER, chunks BLOB, head BLOB, -- NULL before the first pass
    UNIQUE(set_id, number));
CREATE TABLE frames(
    volume INTEGER NOT NULL, number INTEGER NOT NULL,
    plain INTEGER NOT NULL, state BLOB NOT NULL, -- with a check behind it
    PRIMARY KEY(volume, number)) WITHOUT ROWID;
CREATE TABLE parts(
    version INTEGER NOT NULL,
    number INTEGER NOT NULL,        -- the volume; 0 for what was put together from all volumes
    extents BLOB NOT NULL,          -- with a check behind it
    PRIMARY KEY(version, number)) WITHOUT ROWID;
CREATE TABLE source_stats(          -- of a file when it was saved from this machine
    version INTEGER PRIMARY KEY,
    size INTEGER NOT NULL, ctime INTEGER NOT NULL, inode INTEGER NOT NULL);
";

/// Gets a database ready, new or not; tells whether its tables are ours and of this version.
pub fn prepare(connection: &mut Connection) -> rusqlite::Result<bool> {
    if version(connection)? == VERSION {
        return Ok(true);
    }
    // Looked at again now that no other process can be at the same.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (version(&transaction)?, tables) {
        (VERSION, _) => return Ok(true),
        (0, 0) => {}
        _ => return Ok(false),
    }
    transaction.execute_batch(TABLES)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(true)
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}
