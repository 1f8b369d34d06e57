//! Tests of the whole room, against what gzip and gpg write.

mod gzip;
mod symmetric;
