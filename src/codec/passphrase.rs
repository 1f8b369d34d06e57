//! [`PassphraseSource`]: where the passphrase comes from.

use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Where the passphrase comes from. It serves symmetric messages and secret keys; gpg's rule that
/// it ends at the first line end holds everywhere.
#[derive(Clone, Default)]
pub enum PassphraseSource {
    /// There is none: gpg-agent may have one for a secret key.
    #[default]
    None,
    /// This one (`PASSPHRASE`).
    Fixed(Zeroizing<String>),
    /// One of these opens each message, whichever does; the first encrypts. There is at least one.
    Several(Vec<Zeroizing<String>>),
    /// Asked for when the first message needs it; the answer, also `None`, holds for the whole run.
    /// Not asked with [`Options::use_agent`](super::Options::use_agent).
    Ask(Arc<dyn Fn() -> std::io::Result<Option<Zeroizing<String>>> + Send + Sync>),
}

impl fmt::Debug for PassphraseSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Fixed(_) => "Fixed(..)",
            Self::Several(_) => "Several(..)",
            Self::Ask(_) => "Ask(..)",
        })
    }
}
