//! What waits to be written on connections' sockets.

use protocol::Version;

use crate::connection::{ConnectionId, Phase};
use crate::shard::Shard;

impl Shard {
    /// Bytes to write now: None when there are none or the last buffer is still being written.
    pub fn take_output(&mut self, id: ConnectionId) -> Option<Vec<u8>> {
        let now = self.now;
        let connection = self.connection(id)?;
        connection.is_dirty = false;
        if connection.output.is_empty() || connection.output_out > 0 {
            return None;
        }
        let buffer = std::mem::take(&mut connection.output);
        connection.output_out = buffer.len() as u32;
        connection.output_at = now;
        self.metrics.bytes_sent += buffer.len() as u64;
        Some(buffer)
    }

    /// The buffer of `take_output` was written.
    pub fn on_sent(&mut self, id: ConnectionId) {
        let now = self.now;
        let Some(connection) = self.connection(id) else { return };
        let written = std::mem::take(&mut connection.output_out);
        connection.output_at = now;
        // What was appended meanwhile was announced when it could not be taken: it is announced again.
        connection.is_dirty = false;
        let session = connection.session;
        let (is_live, has_output) = (connection.phase == Phase::Live, !connection.output.is_empty());
        self.output_bytes -= written as u64;
        if has_output {
            self.mark_dirty(id);
        }
        if is_live {
            self.pull(session);
        }
    }

    /// A written buffer, or an emptied batch that came home, for later use.
    pub fn recycle_buffer(&mut self, buffer: Vec<u8>) {
        self.spare_buffers.put(buffer);
    }

    #[inline]
    pub(crate) fn mark_dirty(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connection(id)
            && !connection.is_dirty
        {
            connection.is_dirty = true;
            self.outputs.dirty.push(id);
        }
    }

    /// Lets `encode` append to the connection's output and accounts for it.
    pub(crate) fn write(&mut self, id: ConnectionId, encode: impl FnOnce(Version, &mut Vec<u8>)) {
        if self.connection(id).is_some_and(|connection| connection.output.capacity() == 0) {
            let buffer = self.spare_buffers.take();
            if let Some(connection) = self.connection(id) {
                connection.output = buffer;
            }
        }
        let Some(connection) = self.connection(id) else { return };
        let before = connection.output.len();
        encode(connection.version, &mut connection.output);
        let added = connection.output.len() - before;
        self.output_bytes += added as u64;
        self.mark_dirty(id);
    }
}
