//! Joins the worker's parts.

fn main() {}
