//! Volumes of our own: a table of contents tells what is in them before all their bytes are read, and must not make anyone believe a
//! wrong one. Where the table is whole, what else is whole stays readable.

use super::{ACTIONS, Action, Place, table};
use crate::support::{Encoding, Writer};

const TABLE_ACTIONS: [Action; 4] = [Action::FlipTable, Action::CutTable, Action::AppendTable, Action::OtherFrames];

fn play(encoding: Encoding, place: Place) {
    table(Writer::Dupfs, encoding, place, &[&ACTIONS[..], &TABLE_ACTIONS].concat());
}

#[test]
fn plain_volume_of_a_full_set() {
    play(Encoding::Plain, Place::FullVolume);
}

#[test]
fn plain_volume_of_an_incremental_set() {
    play(Encoding::Plain, Place::IncrementalVolume);
}

#[test]
fn gzip_volume_of_a_full_set() {
    play(Encoding::Gzip, Place::FullVolume);
}

#[test]
fn gzip_volume_of_an_incremental_set() {
    play(Encoding::Gzip, Place::IncrementalVolume);
}

#[test]
fn symmetric_volume_of_a_full_set() {
    play(Encoding::Symmetric, Place::FullVolume);
}

#[test]
fn symmetric_volume_of_an_incremental_set() {
    play(Encoding::Symmetric, Place::IncrementalVolume);
}

#[test]
fn signature_file() {
    table(Writer::Dupfs, Encoding::Symmetric, Place::SignatureFile, &ACTIONS);
}

#[test]
fn manifest() {
    table(Writer::Dupfs, Encoding::Gzip, Place::Manifest, &ACTIONS);
}
