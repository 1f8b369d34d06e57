//! A check on each page of the database file, made where SQLite meets the operating system.
//!
//! SQLite notices a page that makes no sense. It does not notice a bit that makes another name,
//! size or place of one, nor an index that has lost a row of its table, and then a file is not
//! there. So the last bytes of each page hold a hash of the page, its place, and the number of the
//! file's inode. It is written with the page, and tested whenever the page is read from the file:
//!
//! ```text
//! 0                                              4088     4096
//! │ what SQLite has put there                     │ check │      a page without the right one is corrupt, as is one that is cut off
//! ```
//!
//! A page that another program has edited fails the test, and so does a file that was copied while
//! somebody wrote to it. Pages in the write-ahead log are tested by SQLite when it is read after a
//! crash, and get their checks on the way to the database file.
//!
//! SQLite reads whole pages only, because [`characteristics`] offers nothing else: of a long value
//! it would fetch parts of pages past its cache, which have no check.
//!
//! SQLite gets at files through a table of functions, a "VFS". This one is SQLite's own with four
//! functions replaced, so it is `unsafe` where it calls the ones below.

use rusqlite::ffi;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

/// The name by which connections ask for these functions.
pub const NAME: &CStr = c"dupfs-checked-pages";
/// Length of a check.
const CHECK: usize = 8;
/// Length of a page: SQLite's default.
const PAGE: usize = 4096;
/// SQLite reads less than the smallest possible page at a time only to look at the header; the page
/// around it is read afterwards.
const SMALLEST_PAGE: c_int = 512;

/// What belongs to one open file; lies behind what SQLite's own functions keep of it.
#[repr(C)]
struct Checked {
    /// The functions for this file. It comes first: `pMethods` of the file points here, and so to
    /// all of this.
    methods: ffi::sqlite3_io_methods,
    /// SQLite's own functions for it.
    below: *const ffi::sqlite3_io_methods,
    inode: u64,
}

/// Makes [`NAME`] known to SQLite; returns SQLite's code of success or failure.
pub fn register() -> c_int {
    static CODE: OnceLock<c_int> = OnceLock::new();
    *CODE.get_or_init(|| {
        // SAFETY: SQLite's table stays for ever, and so does ours.
        unsafe {
            let below = ffi::sqlite3_vfs_find(std::ptr::null());
            if below.is_null() {
                return ffi::SQLITE_ERROR;
            }
            let ours = ffi::sqlite3_vfs {
                szOsFile: (offset(below) + size_of::<Checked>()) as c_int,
                pNext: std::ptr::null_mut(),
                zName: NAME.as_ptr(),
                xOpen: Some(open),
                ..*below
            };
            ffi::sqlite3_vfs_register(Box::leak(Box::new(ours)), 0)
        }
    })
}

/// Has SQLite leave room for the check in each page of a file that is new; those of others have it,
/// or are none of ours.
pub fn reserve(connection: &rusqlite::Connection) -> rusqlite::Result<()> {
    let mut bytes = CHECK as c_int;
    let argument = (&raw mut bytes).cast();
    // SAFETY: the connection is open, and this request takes a pointer to a number.
    let code = unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_RESERVE_BYTES,
            argument,
        )
    };
    match code {
        ffi::SQLITE_OK => Ok(()),
        code => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)),
    }
}

/// Returns where [`Checked`] lies behind the start of an open file.
///
/// # Safety
/// `below` is SQLite's own table.
unsafe fn offset(below: *const ffi::sqlite3_vfs) -> usize {
    // SAFETY: see above.
    unsafe { (*below).szOsFile as usize }.next_multiple_of(align_of::<Checked>())
}

/// Opens a file by SQLite's own function; if it is a database, its pages will be checked.
unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite passes what its own function takes, and `file` has the room that `register`
    // has asked for.
    unsafe {
        let below = ffi::sqlite3_vfs_find(std::ptr::null());
        let Some(open_below) = below.as_ref().and_then(|below| below.xOpen) else {
            return ffi::SQLITE_ERROR;
        };
        let code = open_below(below, name, file, flags, out_flags);
        if code != ffi::SQLITE_OK || flags & ffi::SQLITE_OPEN_MAIN_DB == 0 {
            return code;
        }
        let path = std::ffi::OsStr::from_bytes(CStr::from_ptr(name).to_bytes());
        // Without a number no page fits, and the file is taken for corrupt.
        let inode = std::fs::metadata(path).map_or(0, |found| found.ino());
        let methods_below = (*file).pMethods;
        let checked = file.cast::<u8>().add(offset(below)).cast::<Checked>();
        // Version 2 has no function that maps the file into memory, where nobody would look at the
        // checks.
        let methods = ffi::sqlite3_io_methods {
            iVersion: 2,
            xRead: Some(read),
            xWrite: Some(write),
            xDeviceCharacteristics: Some(characteristics),
            ..*methods_below
        };
        checked.write(Checked { methods, below: methods_below, inode });
        (*file).pMethods = &raw const (*checked).methods;
        code
    }
}

/// Reads a page and tests its check.
unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    buffer: *mut c_void,
    amount: c_int,
    at: i64,
) -> c_int {
    // SAFETY: SQLite calls this only for files that `open` has got ready, with a buffer for
    // `amount` bytes.
    unsafe {
        let checked = &*(*file).pMethods.cast::<Checked>();
        let Some(read_below) = (*checked.below).xRead else { return ffi::SQLITE_ERROR };
        let code = read_below(file, buffer, amount, at);
        if amount < SMALLEST_PAGE {
            return code;
        }
        match code {
            ffi::SQLITE_OK
                if amount as usize == PAGE
                    && is_sound(&*buffer.cast::<[u8; PAGE]>(), at, checked.inode) =>
            {
                code
            }
            ffi::SQLITE_OK | ffi::SQLITE_IOERR_SHORT_READ => ffi::SQLITE_CORRUPT,
            code => code,
        }
    }
}

/// Returns what the file is capable of, but for reads of parts of pages.
unsafe extern "C" fn characteristics(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite calls this only for files that `open` has got ready.
    unsafe {
        let below = (*(*file).pMethods.cast::<Checked>()).below;
        (*below).xDeviceCharacteristics.map_or(0, |function| function(file))
            & !ffi::SQLITE_IOCAP_SUBPAGE_READ
    }
}

/// Writes a page with its check.
unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    buffer: *const c_void,
    amount: c_int,
    at: i64,
) -> c_int {
    // SAFETY: SQLite calls this only for files that `open` has got ready, with a buffer of `amount`
    // bytes.
    unsafe {
        let checked = &*(*file).pMethods.cast::<Checked>();
        let Some(write_below) = (*checked.below).xWrite else { return ffi::SQLITE_ERROR };
        if amount as usize != PAGE {
            return write_below(file, buffer, amount, at);
        }
        let mut page = *buffer.cast::<[u8; PAGE]>();
        seal(&mut page, at, checked.inode);
        write_below(file, page.as_ptr().cast(), amount, at)
    }
}

fn seal(page: &mut [u8; PAGE], at: i64, inode: u64) {
    let Some((content, check)) = page.split_last_chunk_mut::<CHECK>() else { return };
    *check = hash(content, at, inode);
}

fn is_sound(page: &[u8; PAGE], at: i64, inode: u64) -> bool {
    page.split_last_chunk::<CHECK>()
        .is_some_and(|(content, check)| *check == hash(content, at, inode))
}

fn hash(content: &[u8], at: i64, inode: u64) -> [u8; CHECK] {
    let mut check = [0; CHECK];
    let mut hasher = blake3::Hasher::new();
    hasher.update(content).update(&at.to_le_bytes()).update(&inode.to_le_bytes());
    hasher.finalize_xof().fill(&mut check);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_counts_in_its_place_of_its_file_only() {
        let mut page = [7; PAGE];
        assert!(!is_sound(&page, 0, 1));
        seal(&mut page, 8192, 99);
        assert!(is_sound(&page, 8192, 99));
        assert!(!is_sound(&page, 4096, 99) && !is_sound(&page, 8192, 98));
        for bit in 0..8 * PAGE {
            page[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_sound(&page, 8192, 99), "bit {bit}");
            page[bit / 8] ^= 1 << (bit % 8);
        }
    }

    /// Longer than a page, and fetched from the database file: SQLite asked for parts of pages
    /// then.
    #[test]
    fn a_long_value_is_read_in_whole_pages() {
        use rusqlite::{Connection, OpenFlags};

        assert_eq!(register(), ffi::SQLITE_OK);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("database");
        let open =
            || Connection::open_with_flags_and_vfs(&path, OpenFlags::default(), NAME).unwrap();
        let value: Vec<u8> = (0..50_000u32).map(|number| (number % 251) as u8).collect();
        let connection = open();
        reserve(&connection).unwrap();
        connection
            .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE long (value BLOB);")
            .unwrap();
        connection.execute("INSERT INTO long VALUES (?1)", [&value]).unwrap();
        drop(connection);
        let read =
            || open().query_row("SELECT value FROM long", [], |row| row.get::<_, Vec<u8>>(0));
        assert!(read().unwrap() == value);
        // Any part of it is checked.
        let sound = std::fs::read(&path).unwrap();
        for at in (2 * PAGE..sound.len()).step_by(PAGE) {
            let mut wrong = sound.clone();
            wrong[at + 100] ^= 1;
            std::fs::write(&path, wrong).unwrap();
            assert!(read().is_err(), "{at}");
        }
    }
}
