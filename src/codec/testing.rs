//! What the tests of this module share: stored files in memory, plain data, and gpg in a home of
//! its own.

use super::{Codec, Decoder, Encoding, Error, Options, PassphraseSource, SeekPoint};
use crate::format::ByteSource;
use crate::storage::{self, ReadAt};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// A stored file in memory.
pub struct Memory(pub Vec<u8>);

impl ReadAt for Memory {
    fn name(&self) -> &str {
        "memory"
    }

    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, storage::Error> {
        let data = &self.0[self.0.len().min(offset as usize)..];
        let count = data.len().min(buffer.len());
        buffer[..count].copy_from_slice(&data[..count]);
        Ok(count)
    }
}

pub fn file(bytes: impl Into<Vec<u8>>) -> Arc<dyn ReadAt> {
    Arc::new(Memory(bytes.into()))
}

/// Pseudo-random numbers, the same in each run.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

/// Text that deflates about as well as source code, with some incompressible stretches.
pub fn text(length: usize) -> Vec<u8> {
    let mut random = Random(length as u64);
    let words: Vec<String> = (0..500)
        .map(|_| {
            (0..2 + random.below(9)).map(|_| (b'a' + random.below(26) as u8) as char).collect()
        })
        .collect();
    let mut text = Vec::with_capacity(length + 1000);
    while text.len() < length {
        if random.below(5000) == 0 {
            text.extend((0..1000).map(|_| random.below(256) as u8));
        }
        text.extend_from_slice(words[random.below(words.len())].as_bytes());
        text.push(if random.below(9) == 0 { b'\n' } else { b' ' });
    }
    text.truncate(length);
    text
}

/// A codec with a passphrase and a gpg that must not be used.
pub fn codec(passphrase: &str) -> Codec {
    Codec::new(Options {
        passphrase: fixed(passphrase),
        gpg_binary: "/nonexistent/gpg".into(),
        ..Options::default()
    })
}

pub fn fixed(passphrase: &str) -> PassphraseSource {
    PassphraseSource::Fixed(passphrase.to_owned().into())
}

/// Decodes the whole file.
pub fn decode(codec: &Codec, stored: &[u8], encoding: Encoding) -> Result<Vec<u8>, Error> {
    read_to_end(codec.decode(file(stored), encoding)?)
}

pub fn read_to_end(mut decoder: Decoder) -> Result<Vec<u8>, Error> {
    decoder.read_at_most(usize::MAX)
}

/// Decodes the whole file with seek points.
pub fn decode_with_points(
    codec: &Codec,
    stored: &[u8],
    encoding: Encoding,
    span: u64,
) -> (Vec<u8>, Vec<SeekPoint>) {
    let mut decoder = codec.decode(file(stored), encoding).unwrap();
    decoder.collect_seek_points(span);
    let mut plain = Vec::new();
    let mut points = Vec::new();
    let mut buffer = vec![0; 10_000];
    loop {
        let count = decoder.read_bytes(&mut buffer).unwrap();
        points.extend(decoder.take_seek_points());
        if count == 0 {
            return (plain, points);
        }
        plain.extend_from_slice(&buffer[..count]);
    }
}

/// Checks that points lie well, and that reading from each gives the plain bytes, also by several
/// threads at once.
pub fn check_points(
    codec: &Codec,
    stored: &[u8],
    encoding: Encoding,
    span: u64,
    plain: &[u8],
) -> Vec<SeekPoint> {
    let (decoded, points) = decode_with_points(codec, stored, encoding, span);
    assert!(decoded == plain, "the first pass gives something else");
    assert_eq!(points[0].plain, 0);
    assert!(
        points.windows(2).all(|w| w[1].plain - w[0].plain >= span),
        "points are closer than wanted"
    );
    assert!(points.iter().all(|p| p.plain < plain.len().max(1) as u64));
    let reopened = codec.reopen(file(stored), encoding).unwrap();
    let read = |point: &SeekPoint, length: usize| {
        let from = point.plain as usize;
        let mut buffer = vec![0; length.min(plain.len() - from)];
        reopened.read(point, 0, &mut buffer).unwrap();
        assert!(
            buffer == plain[from..from + buffer.len()],
            "reading {length} bytes from {from} gives something else"
        );
    };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (points, read) = (&points, &read);
            scope.spawn(move || {
                let mut random = Random(thread);
                for _ in 0..points.len().min(20) {
                    let index = random.below(points.len());
                    let frame = points.get(index + 1).map_or(plain.len() as u64, |p| p.plain)
                        - points[index].plain;
                    read(&points[index], frame as usize);
                    read(&points[index], random.below(2 * span as usize));
                }
            });
        }
        for point in &points {
            read(point, 1000);
            read(point, 0);
        }
    });
    read(&points[0], plain.len()); // over all borders
    let mut beyond = vec![0; plain.len() + 1];
    assert!(reopened.read(&points[0], 0, &mut beyond).is_err());
    points
}

/// gpg in a home of its own; its agent ends with it.
pub struct GpgHome(tempfile::TempDir);

impl GpgHome {
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("gpg").tempdir_in("/tmp").unwrap(); // sockets want short paths
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::write(directory.path().join("gpg-agent.conf"), "allow-loopback-pinentry\n")
            .unwrap();
        Self(directory)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Runs gpg, which has to be installed, and to succeed.
    pub fn run(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut child = Command::new("gpg")
            .args([
                "--homedir",
                self.path().to_str().unwrap(),
                "--batch",
                "--no-tty",
                "--trust-model",
                "always",
                "--quiet",
            ])
            .args(["--pinentry-mode=loopback"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("gpg is needed for this test");
        let mut stdin = child.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(input));
            child.wait_with_output().unwrap()
        });
        assert!(
            output.status.success(),
            "gpg {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }

    /// Encrypts with the passphrase "geheim" and a cheap key derivation.
    pub fn symmetric(&self, arguments: &[&str], plain: &[u8]) -> Vec<u8> {
        self.run(
            &[&["--passphrase", "geheim", "--s2k-count", "65536"], arguments, &["--symmetric"]]
                .concat(),
            plain,
        )
    }

    /// Makes a key with subkeys of the given algorithm and usage, and returns its fingerprint.
    pub fn key(
        &self,
        name: &str,
        passphrase: &str,
        primary: &str,
        subkeys: &[(&str, &str)],
    ) -> String {
        let secret = ["--passphrase", passphrase];
        self.run(
            &[&secret[..], &["--quick-generate-key", name, primary, "sign,cert", "never"]].concat(),
            &[],
        );
        let fingerprint = self.fingerprints(name)[0].clone();
        for (algorithm, usage) in subkeys {
            self.run(
                &[&secret[..], &["--quick-add-key", &fingerprint, algorithm, usage, "never"]]
                    .concat(),
                &[],
            );
        }
        fingerprint
    }

    /// Returns the fingerprints of a key and its subkeys.
    pub fn fingerprints(&self, name: &str) -> Vec<String> {
        let list =
            String::from_utf8(self.run(&["--with-colons", "--list-keys", name], &[])).unwrap();
        let lines = list.lines().filter_map(|l| l.strip_prefix("fpr:"));
        lines.map(|l| l.trim_matches(':').to_owned()).collect()
    }

    /// Options for a codec that uses this home.
    pub fn options(&self, passphrase: PassphraseSource) -> Options {
        let home = self.path().to_str().unwrap().to_owned();
        let gpg_options = vec!["--homedir".to_owned(), home];
        Options { passphrase, gpg_options, tempdir: self.path().to_owned(), ..Options::default() }
    }
}

impl Drop for GpgHome {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf")
            .arg("--homedir")
            .arg(self.path())
            .args(["--kill", "all"])
            .status();
    }
}
