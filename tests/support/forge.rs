//! [`Forge`]: collections that duplicity would not write, member by member: plain full sets of one
//! volume.

use super::Env;
use sha1::Digest;

/// One tar member of a volume, and of the signature file beside it.
#[derive(Debug, Clone)]
pub struct Member {
    path: Vec<u8>,
    kind: u8,
    data: Vec<u8>,
    target: Vec<u8>,
    mode: u32,
    user: (u32, &'static str),
    mtime: u64,
}

impl Member {
    fn new(path: impl AsRef<[u8]>, kind: u8) -> Self {
        let path = path.as_ref().to_vec();
        Self {
            path,
            kind,
            data: Vec::new(),
            target: Vec::new(),
            mode: 0o755,
            user: (0, ""),
            mtime: 1_000_000_000,
        }
    }

    pub fn directory(path: impl AsRef<[u8]>) -> Self {
        Self::new(path, b'5')
    }

    /// Makes a file; small enough for one piece.
    pub fn file(path: impl AsRef<[u8]>, data: impl Into<Vec<u8>>) -> Self {
        let data = data.into();
        assert!(data.len() < 65536);
        Self { data, ..Self::new(path, b'0') }
    }

    pub fn symlink(path: impl AsRef<[u8]>, target: impl Into<Vec<u8>>) -> Self {
        Self { target: target.into(), ..Self::new(path, b'2') }
    }

    /// Sets owner and group, by number and by name.
    pub fn user(mut self, number: u32, name: &'static str) -> Self {
        self.user = (number, name);
        self
    }

    /// Sets the rights.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    fn append(&self, tar: &mut tar::Builder<Vec<u8>>, prefix: &str, data: &[u8]) {
        let slash = if self.kind == b'5' { &b"/"[..] } else { b"" };
        let name = [prefix.as_bytes(), &self.path, slash].concat();
        let extensions = [("path", &name[..]), ("linkpath", &self.target[..])];
        tar.append_pax_extensions(extensions.into_iter().filter(|(_, value)| value.len() > 100))
            .unwrap();
        let mut header = tar::Header::new_ustar();
        copy(&mut header.as_old_mut().name, &name);
        copy(&mut header.as_old_mut().linkname, &self.target);
        header.set_entry_type(tar::EntryType::new(self.kind));
        header.set_mode(self.mode);
        header.set_uid(self.user.0.into());
        header.set_gid(self.user.0.into());
        header.set_username(self.user.1).unwrap();
        header.set_groupname(self.user.1).unwrap();
        header.set_mtime(self.mtime);
        header.set_size(data.len() as u64);
        header.set_cksum();
        tar.append(&header, data).unwrap();
    }
}

fn copy(field: &mut [u8; 100], bytes: &[u8]) {
    let length = bytes.len().min(100);
    field[..length].copy_from_slice(&bytes[..length]);
}

/// Writes sets into a world's collection.
pub struct Forge;

impl Forge {
    /// Writes a full set that holds a root directory and these members, in their order.
    pub fn full(env: &Env, time: i64, members: &[Member]) {
        let (mut volume, mut signatures) =
            (tar::Builder::new(Vec::new()), tar::Builder::new(Vec::new()));
        let root = Member::directory("");
        root.append(&mut signatures, "snapshot", b"");
        Member { path: b".".to_vec(), ..root }.append(&mut volume, "snapshot/", b"");
        for member in members {
            member.append(&mut volume, "snapshot/", &member.data);
            if member.kind == b'0' {
                member.append(&mut signatures, "signature/", &signature(member.data.len()));
            } else {
                member.append(&mut signatures, "snapshot/", b"");
            }
        }
        let (volume, signatures) = (volume.into_inner().unwrap(), signatures.into_inner().unwrap());
        let hash: String =
            sha1::Sha1::digest(&volume).iter().map(|byte| format!("{byte:02x}")).collect();
        let last = members.last().map_or("~".into(), |member| quote(&member.path));
        let manifest = format!(
            "Hostname forge\nLocaldir source\nVolume 1:\n    StartingPath   .  \n    EndingPath     {last}  \n    \
             Hash SHA1 {hash}\nFilelist 0\n"
        );
        let time = chrono::DateTime::from_timestamp(time, 0).unwrap().format("%Y%m%dT%H%M%SZ");
        let put =
            |name: String, bytes: &[u8]| std::fs::write(env.store().join(name), bytes).unwrap();
        put(format!("duplicity-full.{time}.vol1.difftar"), &volume);
        put(format!("duplicity-full-signatures.{time}.sigtar"), &signatures);
        put(format!("duplicity-full.{time}.manifest"), manifest.as_bytes());
    }
}

/// Returns a signature of as many blocks as a file of this size has, its sums all zero.
fn signature(size: usize) -> Vec<u8> {
    let header = [0x72730136_u32, 512, 8].map(u32::to_be_bytes).concat();
    [header, vec![0; size.div_ceil(512) * 12]].concat()
}

/// Quotes a path as manifests do, all bytes of it.
fn quote(path: &[u8]) -> String {
    format!("\"{}\"", path.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>())
}
