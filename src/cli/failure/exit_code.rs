//! The table of exit codes: duplicity's own published numbers, 90 and 91.

/// The end of every help text.
pub const HELP: &str = "\
Exit codes:
   0  done; paths that could not be read are named, and counted in Errors; nothing differs
   1  verify found differences
   2  bad command line
   3, 42  the backup before was made on another host, of another source
   4  interrupted (Ctrl-C, SIGTERM, SIGHUP)
   5  manifests in storage and in the archive directory differ
   7  list of files cannot be read
   9  archive directory cannot be used
  10  --sign-key is not a key's id
  11  target of a restore is not empty
  12, 13  folder to verify is missing; source is missing
  14 to 16, 70 to 73  selection makes no sense
  17  no signatures to build an increment on
  19, 20  path is not in the backup; nothing to restore
  21, 22  a volume's hash differs; it is not signed by the demanded key
  23  bad URL, or another instance is running
  30  no backup found, no passphrase, or any other error
  31  wrong passphrase, or a key cannot be used
  33  duplicity can do it, dupfs not yet
  44  a volume is not in storage as it was stored, with its size
  50 to 53  storage fails; refuses; is missing; is full
  90  something could not be restored whole, or is otherwise damaged
  91  --fail-on-unreadable: something could not be read, all else is stored";

/// A bad command line.
pub const COMMAND_LINE: u8 = 2;
/// Verify found differences.
pub const DIFFERENCES: u8 = 1;
/// Ctrl-C.
pub const INTERRUPTED: u8 = 4;
/// Nothing foreseen.
pub const EXCEPTION: u8 = 30;
/// Something could not be restored.
pub const INCOMPLETE: u8 = 90;
/// Something of the source could not be read, and that was to be a failure.
pub const UNREADABLE: u8 = 91;
