//! Every sentence of the contract that the isolation suite doesn't try, with good and bad input.

pub mod answers;
mod canary;
pub mod load;
pub mod loading;
pub mod logs;
pub mod options;
pub mod refusals;
pub mod start_errors;
pub mod streams;
pub mod token;

use super::{Check, Evidence, Need, ensure_kept};
