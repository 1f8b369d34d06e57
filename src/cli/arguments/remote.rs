//! [`Remote`]: options of storages behind a network.

use super::values::parse_rate;
use clap::Args;
use dupfs::storage::{AzureSettings, Par2Options, S3Settings, TlsSettings};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Options of storages behind a network.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of storages")]
pub struct Remote {
    /// Further options for ssh, separated by blanks
    #[arg(long, global = true, value_name = "OPTIONS", allow_hyphen_values = true)]
    ssh_options: Vec<OsString>,
    /// Send no faster than so many KiB a second, or MiB as in 2M, over all transfers together
    #[arg(long, global = true, value_name = "RATE", value_parser = parse_rate)]
    pub max_upload_rate: Option<u64>,
    /// Receive no faster than that
    #[arg(long, global = true, value_name = "RATE", value_parser = parse_rate)]
    pub max_download_rate: Option<u64>,
    /// How much of a file may be damaged and still be repaired, for par2+SCHEME://, in percent
    #[arg(long, global = true, value_name = "PERCENT", default_value_t = 10)]
    par2_redundancy: u32,
    /// Number of recovery files for each file
    #[arg(long, global = true, value_name = "COUNT", default_value_t = 1)]
    par2_volumes: u32,
    /// Further options for par2, separated by blanks
    #[arg(long, global = true, value_name = "OPTIONS", allow_hyphen_values = true)]
    par2_options: Vec<OsString>,
    /// Further options for rsync, separated by blanks
    #[arg(long, global = true, value_name = "OPTIONS", allow_hyphen_values = true)]
    rsync_options: Vec<OsString>,
    /// Ask for the password of the storage, unless it is in the URL or the environment
    #[arg(long, global = true)]
    pub ssh_askpass: bool,
    /// Let an FTP server open the connections for data
    #[arg(long, global = true)]
    pub ftp_regular: bool,
    /// Open the connections for data to an FTP server, as is the default
    #[arg(long, global = true, overrides_with = "ftp_regular")]
    ftp_passive: bool,
    /// File with the certificates of authorities to trust, in place of the system's
    #[arg(long, global = true, value_name = "FILE")]
    ssl_cacert_file: Option<PathBuf>,
    /// Folder of such files
    #[arg(long, global = true, value_name = "DIR")]
    ssl_cacert_path: Option<PathBuf>,
    /// Trust any server: whoever sits on the line can then read the password
    #[arg(long, global = true)]
    ssl_no_check_certificate: bool,
    /// Further headers for WebDAV: 'name,value,name,value'
    #[arg(long, global = true, value_name = "HEADERS")]
    pub webdav_headers: Option<String>,
    /// Storage policy of a container of Swift that is made
    #[arg(long, global = true, value_name = "NAME")]
    pub swift_storage_policy: Option<String>,
    /// Buckets of S3.
    #[command(flatten)]
    pub s3: S3,
    /// Containers of Azure.
    #[command(flatten)]
    pub azure: Azure,
}

/// Options of containers of Azure.
#[derive(Debug, Args)]
pub struct Azure {
    /// Access tier for files that are stored: Hot, Cool, Cold or Archive
    #[arg(long, global = true, value_name = "TIER")]
    azure_blob_tier: Option<String>,
    /// Largest file that goes in one piece, in bytes; 1 GiB if not given
    #[arg(long, global = true, value_name = "BYTES")]
    azure_max_single_put_size: Option<usize>,
    /// Size of the parts in which larger files go, in bytes
    #[arg(long, global = true, value_name = "BYTES")]
    azure_max_block_size: Option<usize>,
    /// Parts of one file that go at once
    #[arg(long, global = true, value_name = "COUNT")]
    azure_max_connections: Option<usize>,
}

impl Azure {
    /// Returns what these options mean.
    pub fn settings(&self) -> AzureSettings {
        AzureSettings {
            tier: self.azure_blob_tier.clone(),
            whole: self.azure_max_single_put_size,
            part: self.azure_max_block_size,
            parts: self.azure_max_connections,
        }
    }
}

/// Options of buckets of S3. Of several classes of storage the first of this list counts, as for
/// duplicity.
#[derive(Debug, Args)]
pub struct S3 {
    /// Server of the bucket, where it is not Amazon's
    #[arg(long, global = true, value_name = "URL")]
    s3_endpoint_url: Option<String>,
    /// Region of the bucket
    #[arg(long, global = true, value_name = "NAME")]
    s3_region_name: Option<String>,
    /// Speak HTTP, not HTTPS, with the server of the bucket
    #[arg(long, global = true)]
    s3_unencrypted_connection: bool,
    /// Store files in the class of reduced redundancy
    #[arg(long, global = true)]
    s3_use_rrs: bool,
    /// Store files in the class for infrequent access
    #[arg(long, global = true)]
    s3_use_ia: bool,
    /// Store files in the class for infrequent access in one zone
    #[arg(long, global = true)]
    s3_use_onezone_ia: bool,
    /// Store volumes in Glacier: they have to be thawed before they can be read
    #[arg(long, global = true)]
    s3_use_glacier: bool,
    /// Store volumes in Glacier with instant retrieval
    #[arg(long, global = true)]
    s3_use_glacier_ir: bool,
    /// Store volumes in Glacier's deep archive: they have to be thawed before they can be read
    #[arg(long, global = true)]
    s3_use_deep_archive: bool,
    /// Let the service encrypt what is stored by a key of its own
    #[arg(long, global = true)]
    s3_use_server_side_encryption: bool,
    /// Let the service encrypt what is stored by a key that you hold there
    #[arg(long, global = true)]
    s3_use_server_side_kms_encryption: bool,
    /// That key; the account's default key if not given
    #[arg(long, global = true, value_name = "ID")]
    s3_kms_key_id: Option<String>,
    /// Size of the parts in which larger files go, in MiB; in one piece up to 1 GiB if not given
    #[arg(long, global = true, value_name = "MB")]
    s3_multipart_chunk_size: Option<usize>,
    /// Parts of one file that go at once
    #[arg(long, global = true, value_name = "COUNT")]
    s3_multipart_max_procs: Option<usize>,
}

impl S3 {
    /// Returns what these options mean.
    pub fn settings(&self) -> S3Settings {
        let classes = [
            (self.s3_use_rrs, "REDUCED_REDUNDANCY", true),
            (self.s3_use_ia, "STANDARD_IA", true),
            (self.s3_use_onezone_ia, "ONEZONE_IA", true),
            (self.s3_use_glacier, "GLACIER", false),
            (self.s3_use_glacier_ir, "GLACIER_IR", false),
            (self.s3_use_deep_archive, "DEEP_ARCHIVE", false),
        ];
        let class = classes.into_iter().find(|(is_given, ..)| *is_given);
        S3Settings {
            endpoint: self.s3_endpoint_url.clone(),
            region: self.s3_region_name.clone(),
            unencrypted: self.s3_unencrypted_connection,
            class: class.map(|(_, class, _)| class.into()),
            class_for_all: class.is_some_and(|(_, _, for_all)| for_all),
            encrypted: self.s3_use_server_side_encryption,
            kms: self.s3_use_server_side_kms_encryption,
            kms_key: self.s3_kms_key_id.clone(),
            part: self.s3_multipart_chunk_size.map(|size| size.saturating_mul(1 << 20)),
            parts: self.s3_multipart_max_procs,
        }
    }
}

impl Remote {
    /// Returns which servers are trusted.
    pub fn tls(&self) -> TlsSettings {
        TlsSettings {
            ca_file: self.ssl_cacert_file.clone(),
            ca_path: self.ssl_cacert_path.clone(),
            no_check: self.ssl_no_check_certificate,
        }
    }

    /// Returns the arguments for ssh.
    pub fn ssh_options(&self) -> Vec<OsString> {
        words(&self.ssh_options)
    }

    /// Returns the arguments for rsync.
    pub fn rsync_options(&self) -> Vec<OsString> {
        words(&self.rsync_options)
    }

    /// Returns how recovery files are made.
    pub fn par2(&self) -> Par2Options {
        Par2Options {
            redundancy: self.par2_redundancy,
            volumes: self.par2_volumes,
            options: words(&self.par2_options),
        }
    }
}

/// Splits options for another program at blanks.
fn words(options: &[OsString]) -> Vec<OsString> {
    let words = options.iter().flat_map(|options| {
        options.as_bytes().split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
    });
    words.map(|word| OsStr::from_bytes(word).into()).collect()
}
