//! Cores, memory and disk.

use std::time::Duration;

use super::table::options;
use super::value::{Auto, Cores, OrWord, Size};

options! {
    /// Cores and memory of the shards.
    Runtime as "runtime" {
        /// One shard runs on each core: `auto` (the cores that the process may use by its affinity mask, at
        /// most the CPU quota of its cgroup), a number of them, or a list such as `0,2-3` (`2-2` for core 2
        /// alone).
        /// Size: all cores but those of the network card's interrupts; a second hardware thread of a core
        /// adds little.
        /// At the bound: at most 128 shards.
        cores: Cores = "auto";

        /// Memory of the process. `auto`: 70 % of the cgroup's limit or of the machine's memory.
        /// Size: 16 MiB a shard, plus 10 KiB a connection, plus what may wait in queues and be retained.
        /// At the bound: from 85 % of a shard's part publishers are not read; from 92 % CONNECT gets 0x97.
        memory: OrWord<Size, Auto> = "auto";

        /// The cores are shared with other work: shards are not pinned, never spin, and may be more than the
        /// cores.
        overprovisioned: bool = "false";

        /// How long a shard without work spins for new input before it sleeps. `0s`: it sleeps at once.
        /// Size: 50us on cores of one's own when microseconds matter; the core is then never idle under load.
        /// At the bound: 1 ms.
        busy_poll: Duration = "0s" in "0s" ..= "1ms";
    }
}

options! {
    /// What is kept on disk.
    Storage as "storage" {
        /// Directory of the broker's own files, made if it is missing; one broker at a time may use it. In
        /// this version it keeps the key that places clients on shards; sessions and messages live in memory.
        /// Empty: nothing is kept.
        data_dir: String = "";
    }
}
