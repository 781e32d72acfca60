//! The flowstone binary.
fn main() {}
