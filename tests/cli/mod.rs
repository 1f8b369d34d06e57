//! What the user types and sees: listings and states equal those of duplicity 0.8.22, errors say
//! what is wrong and end with duplicity's own exit codes.

mod backup;
mod backup_errors;
mod backup_keys;
mod beside;
mod chain_end;
mod classes;
mod command;
mod dry_run;
mod errors;
mod examples;
mod listings;
mod log;
mod passphrases;
mod restore;
mod restore_target;
mod retention;
mod secrets;
mod verify;
