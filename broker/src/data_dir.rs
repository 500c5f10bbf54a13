//! The directory of the broker's own files: locked while it is used, readable by its owner only. It keeps the key that
//! places clients on shards, so that a client keeps its bucket.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct DataDir {
    placement_key: u64,
    /// Holds the lock as long as it is open.
    _lock: File,
}

#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("another broker uses the data directory {}: stop it, or choose another `storage.data_dir`", .0.display())]
    InUse(PathBuf),
    #[error("the data directory cannot be used: {}: {source}; `storage.data_dir` must be writable for this user",
        path.display())]
    Unusable { path: PathBuf, source: io::Error },
    #[error(
        "{} is not a placement key of 16 hexadecimal digits: restore it from a backup, or remove it to place clients anew",
        .0.display()
    )]
    Damaged(PathBuf),
}

impl DataDir {
    /// Makes the directory if it is missing.
    pub fn open(path: &Path) -> Result<DataDir, DataDirError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError::Unusable { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable(path))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(unusable(path))?;

        let lock_path = path.join("lock");
        let lock = private(OpenOptions::new().create(true).truncate(false)).open(&lock_path);
        let lock = lock.map_err(unusable(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataDirError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(unusable(&lock_path)(error)),
        }

        let key_path = path.join("placement-key");
        let placement_key = match fs::read_to_string(&key_path) {
            Ok(text) => {
                let digits = text.trim();
                let key = u64::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 16);
                key.ok_or_else(|| DataDirError::Damaged(key_path.clone()))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = random().map_err(unusable(&key_path))?;
                write_whole(path, &key_path, &format!("{key:016x}\n")).map_err(unusable(&key_path))?;
                key
            }
            Err(error) => return Err(unusable(&key_path)(error)),
        };
        Ok(DataDir { placement_key, _lock: lock })
    }

    pub fn placement_key(&self) -> u64 {
        self.placement_key
    }
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.write(true).mode(0o600)
}

/// There with all of its content, or not there, whatever happens meanwhile.
fn write_whole(directory: &Path, path: &Path, text: &str) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file = private(OpenOptions::new().create(true).truncate(true)).open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    File::open(directory)?.sync_all()
}

/// A number that nobody can guess.
pub fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_stays_and_only_its_owner_can_read_it() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let key = DataDir::open(&path).unwrap().placement_key();
        assert_eq!(DataDir::open(&path).unwrap().placement_key(), key);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("placement-key")), 0o600);
    }

    #[test]
    fn one_broker_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = DataDir::open(directory.path()).unwrap();
        assert!(matches!(DataDir::open(directory.path()), Err(DataDirError::InUse(_))));
        drop(first);
        assert!(DataDir::open(directory.path()).is_ok());
    }

    #[test]
    fn a_damaged_key_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("placement-key"), "12").unwrap();
        assert!(matches!(DataDir::open(directory.path()), Err(DataDirError::Damaged(_))));
        fs::write(directory.path().join("file"), "").unwrap();
        let below_a_file = DataDir::open(&directory.path().join("file/x"));
        assert!(matches!(below_a_file, Err(DataDirError::Unusable { .. })));
    }
}
