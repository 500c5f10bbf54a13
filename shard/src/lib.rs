pub mod filter_index;
