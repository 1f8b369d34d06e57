//! `collection-status`: which backups there are.
use crate::args::{Common, StatusArgs};

pub fn run(_arguments: &StatusArgs, _common: &Common) -> anyhow::Result<()> {
    Ok(())
}
