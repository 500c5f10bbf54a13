# Short names for what developers do often. `./run` and `./.ci/test` need no `just`.

# Everything that has to pass before a change lands.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo check -p shardmq-shard --no-default-features
    cargo test --workspace

test *ARGS:
    cargo test --workspace {{ARGS}}

# The broker with the defaults; arguments go to `shardmq serve`.
run *ARGS:
    ./run {{ARGS}}

# As the build server does it.
ci:
    ./.ci/run

# The benchmarks of the codec and the core; arguments go to criterion.
bench *ARGS:
    cargo bench -p shardmq-protocol -p shardmq-shard --benches -- {{ARGS}}

# One schedule of the simulation, with its trace.
sim SEED:
    SEED={{SEED}} cargo test -p shardmq-shard --test simulation seeds -- --exact --nocapture

# Many fresh schedules, in release.
sims COUNT="100000":
    SIM_SEEDS={{COUNT}} SIM_FIRST=$(date +%s%6N) cargo test --release -p shardmq-shard --test simulation seeds -- --exact --nocapture

# 10 million hostile inputs through the decoder, a million through live nodes, in release.
fuzz DECODER="10000000" SHARD="1000000":
    HOSTILE_INPUTS={{DECODER}} cargo test --release -p shardmq-protocol --test codec hostile
    HOSTILE_INPUTS={{SHARD}} cargo test --release -p shardmq-shard --test hostile

# One deliberate fault at a time: the tests of the core have to catch each (docs/testing.md).
mutants *NAME:
    cargo run -p shardmq-shard --example mutants -- {{NAME}}

# The race of SUBACK and PUBLISH over four shards, a million times (HC-SUB-10).
hard-race TRIES="1000000":
    HARD_TRIES={{TRIES}} cargo test --release -p shardmq-shard --test conformance hc_sub_10

# Licences, bans, advisories (needs cargo-deny).
deny:
    cargo deny check

# Renews the parts of the documentation that are made from the code.
config-docs:
    ./.ci/config-docs

# Renews docs/mqtt-conformance.md and docs/hard-cases.md from the cases.
conformance-docs:
    CONFORMANCE_DOC_WRITE=1 cargo test -p shardmq-shard --test conformance the_document_is_up_to_date

# Measures brokers side by side: perf/out/report.html (perf/README.md).
perf *ARGS:
    cargo build --release --locked -p shardmq -p shardmq-loadgen -p shardmq-perf
    target/release/shardmq-perf run {{ARGS}}

# Opens a report in Chromium and looks for the pixels of every plot.
perf-page:
    cargo test -p shardmq-perf every_plot_is_drawn -- --nocapture

# Random scripts to shardmq and to mosquitto; every difference is documented or a fault.
diff SEEDS="3000" FIRST="0":
    DIFF_SEEDS={{SEEDS}} DIFF_FIRST={{FIRST}} cargo test -p shardmq --test differential -- --nocapture

# The reliability bars of `docs/testing.md` at full size.
reliability:
    RELIABILITY_FULL=1 cargo test --release -p shardmq --test reliability --test reliability_hashes --test reliability_hostile --test reliability_overload -- --nocapture --test-threads 1
    RELIABILITY_FULL=1 cargo test --release -p shardmq --test hard_cases --test orderly_stop -- --nocapture --test-threads 1
