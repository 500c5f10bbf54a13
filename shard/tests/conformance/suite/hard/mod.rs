//! Hard cases: situations in which brokers in the field go wrong. `docs/hard-cases.md` lists them with what has to
//! happen; each has its cases here, named by its id, one file for each chapter of the list.

mod connect;
mod publish;
mod retained;
mod takeover;
mod will;

use super::case::Case;

pub fn cases() -> Vec<Case> {
    [connect::cases(), publish::cases(), retained::cases(), takeover::cases(), will::cases()].concat()
}
