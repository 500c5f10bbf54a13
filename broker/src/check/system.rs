//! The files in which Linux tells about itself, below a root that tests replace.

use std::fs;
use std::path::{Path, PathBuf};

pub struct System {
    root: PathBuf,
}

impl System {
    pub fn here() -> System {
        System { root: "/".into() }
    }

    /// A file's text without the space around it; None if it cannot be read.
    pub fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        Some(fs::read_to_string(self.root.join(path)).ok()?.trim().to_owned())
    }

    /// A kernel setting by its sysctl name.
    pub fn setting(&self, name: &str) -> Option<String> {
        self.read(Path::new("proc/sys").join(name.replace('.', "/")))
    }

    /// The first number of a kernel setting.
    pub fn setting_number(&self, name: &str) -> Option<u64> {
        self.setting(name)?.split_whitespace().next()?.parse().ok()
    }

    /// Names in a directory, sorted; none if it is not there.
    pub fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.root.join(path).exists()
    }

    /// Whether a process of that name runs.
    pub fn runs(&self, process: &str) -> bool {
        let is_number = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
        let mut processes = self.names("proc").into_iter().filter(is_number);
        processes.any(|pid| self.read(Path::new("proc").join(pid).join("comm")).as_deref() == Some(process))
    }
}

/// The one in brackets of `always [madvise] never`; the text itself if there are none.
pub fn chosen(text: &str) -> &str {
    text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or(text, |(inner, _)| inner)
}

/// A machine made of files, for tests.
#[cfg(test)]
pub fn made_of(files: &[(&str, &str)]) -> (tempfile::TempDir, System) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let system = System { root: dir.path().to_owned() };
    (dir, system)
}
