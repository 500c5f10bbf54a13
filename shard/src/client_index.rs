//! Sessions by client id. The table has their indices only: the id is kept once, in its session, and its hash is the
//! session's key.

use hashbrown::HashTable;

use crate::chunked::ChunkedSlab;
use crate::session::Session;

#[derive(Debug, Default)]
pub(crate) struct ClientIndex {
    sessions: HashTable<u32>,
}

impl ClientIndex {
    /// `key` is `Placement::client_key` of the id.
    pub fn find(&self, key: u64, client_id: &str, sessions: &ChunkedSlab<Session>) -> Option<u32> {
        self.sessions.find(key, |&index| *sessions[index as usize].client_id == *client_id).copied()
    }

    /// Enters a session whose client has none.
    pub fn insert(&mut self, index: u32, sessions: &ChunkedSlab<Session>) {
        let key_of = |&index: &u32| sessions[index as usize].client_key;
        self.sessions.insert_unique(key_of(&index), index, key_of);
    }

    pub fn remove(&mut self, key: u64, index: u32) {
        if let Ok(entry) = self.sessions.find_entry(key, |&other| other == index) {
            entry.remove();
        }
    }
}
