pub mod filter_index;
pub mod routes;
