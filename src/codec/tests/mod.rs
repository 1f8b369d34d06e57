//! Tests of the whole module, against what gzip and gpg write.

mod damage;
mod gpg;
mod gzip;
mod public;
mod signed;
mod symmetric;
