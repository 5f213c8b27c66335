//! What a full disk looks like: both services must know it, to wait instead of giving up.

use std::io;

/// Extended result codes of SQLite for a database that found no room. A write that the system cuts
/// short, or a shared-memory file that cannot grow, is an I/O error to SQLite; the numbers are part
/// of its file format's stable interface (<https://sqlite.org/rescode.html>).
const NO_ROOM: [i32; 7] = [
    SQLITE_FULL,
    SQLITE_IOERR | 3 << 8,  // WRITE
    SQLITE_IOERR | 4 << 8,  // FSYNC
    SQLITE_IOERR | 6 << 8,  // TRUNCATE
    SQLITE_IOERR | 18 << 8, // SHMOPEN
    SQLITE_IOERR | 19 << 8, // SHMSIZE
    SQLITE_IOERR | 21 << 8, // SHMMAP
];
const SQLITE_IOERR: i32 = 10;
const SQLITE_FULL: i32 = 13;

/// Whether SQLite's extended result code says that there is no room.
pub fn is_full_for_sqlite(extended_code: i32) -> bool {
    NO_ROOM.contains(&extended_code)
}

/// Whether an error of a file operation says that there is no room.
pub fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
