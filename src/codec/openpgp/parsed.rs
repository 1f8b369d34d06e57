//! What sequoia parses for our own reader, and by which policy.

use openpgp::parse::Parse;
use openpgp::policy::StandardPolicy;
use openpgp::types::{HashAlgorithm, SymmetricAlgorithm};
use openpgp::{Packet, PacketPile};
use sequoia_openpgp as openpgp;
use std::sync::LazyLock;

/// sequoia's idea of what is secure, but for reading what has been written long ago.
pub static POLICY: LazyLock<StandardPolicy> = LazyLock::new(|| {
    let mut policy = StandardPolicy::new();
    for algorithm in SymmetricAlgorithm::variants() {
        policy.accept_symmetric_algo(algorithm);
    }
    for algorithm in openpgp::policy::AsymmetricAlgorithm::variants() {
        policy.accept_asymmetric_algo(algorithm);
    }
    policy.accept_hash(HashAlgorithm::SHA1);
    policy.accept_hash(HashAlgorithm::RipeMD);
    policy
});

/// Parses a row of packets; what is no packet is left out.
pub fn packet_list(bytes: &[u8]) -> Vec<Packet> {
    PacketPile::from_bytes(bytes).map(|pile| pile.into_children().collect()).unwrap_or_default()
}

/// Parses one packet with the given tag and body.
pub fn packet(tag: u8, body: &[u8]) -> Option<Packet> {
    let length = u32::try_from(body.len()).ok()?.to_be_bytes();
    packet_list(&[&[0xc0 | tag, 0xff], &length[..], body].concat()).into_iter().next()
}
